"""Versions on disk: published whole or not at all, and one of them live."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from artifacts import manifest as contract
from artifacts import model as loading
from artifacts import store as versions
from artifacts.manifest import BadArtifact
from artifacts.store import Catalog, Live, NotFound, ReadOnly, Store
from tests import toy

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    release = tmp_path / "release"
    release.mkdir()
    return Store(tmp_path / "state", release)


def released(tmp_path: Path) -> Store:
    """A store over a release that has one live toy and the task `light`."""
    work = Store(tmp_path / "work", tmp_path / "none")
    first = toy.publish(work)
    work.activate("toy", first.version)
    work.point("light", "toy")
    (tmp_path / "work" / "models").rename(tmp_path / "release")
    return Store(tmp_path / "state", tmp_path / "release")


def drafts(store: Store) -> list[Path]:
    assert store.written is not None
    return list(store.written.rglob(".draft-*"))


def test_what_is_published_loads_and_answers(store: Store) -> None:
    manifest = toy.publish(store)
    assert store.models() == ["toy"]
    assert store.versions("toy") == [manifest.version]
    model = loading.load(store.folder("toy", manifest.version))
    assert model.predict(toy.white()).probabilities.argmax() == 0
    assert model.manifest == manifest
    assert drafts(store) == []


def test_publishing_activates_nothing(store: Store) -> None:
    toy.publish(store)
    assert store.catalog() == Catalog()


def test_publishing_again_changes_nothing(store: Store) -> None:
    first = toy.publish(store)
    folder = store.folder("toy", first.version)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert toy.publish(store) == first
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "samples.npz"])
def test_publishing_again_mends_a_damaged_version(store: Store, name: str) -> None:
    first = toy.publish(store)
    path = store.folder("toy", first.version) / name
    path.write_bytes(path.read_bytes()[:-10])
    assert toy.publish(store) == first
    loading.load(store.folder("toy", first.version))
    assert store.versions("toy") == [first.version]


def test_of_two_publishers_at_once_the_first_one_stays(store: Store, tmp_path: Path) -> None:
    folder = store.folder("toy", toy.publish(store).version)
    before = folder.stat().st_ino
    (tmp_path / "draft").mkdir()
    versions._put(tmp_path / "draft", folder)  # what the second does, once it has the lock
    assert folder.stat().st_ino == before


def test_a_manifest_that_would_not_read_back_is_not_published(store: Store) -> None:
    model = toy.onnx_bytes()
    facts = toy.manifest(created="some day")
    with pytest.raises(BadArtifact, match="created"):
        store.publish(model, facts, toy.samples(model, toy.manifest()))
    assert store.models() == []


def test_versions_are_listed_oldest_first_the_damaged_ones_too(store: Store) -> None:
    found = []
    for constant, year in ((1, 2028), (2, 2026), (3, 2027)):
        model = toy.onnx_bytes(constant=constant)
        facts = toy.manifest(created=f"{year}-01-01T00:00:00Z")
        found.append(store.publish(model, facts, toy.samples(model, facts)).version)
    assert store.versions("toy") == [found[1], found[2], found[0]]
    (store.folder("toy", found[0]) / "manifest.json").unlink()
    assert store.versions("toy") == [found[0], found[1], found[2]]


@pytest.mark.parametrize("name", ["nobody", "../release", "", "a/b", ".", "x" * 200])
def test_a_model_that_is_not_there_is_not_found(store: Store, name: str) -> None:
    for ask in (store.versions, store.resolve, store.rollback, store.deactivate):
        with pytest.raises(NotFound):
            ask(name)
    for version in ("0123456789ab", "..", ""):
        with pytest.raises(NotFound):
            store.folder(name, version)
        with pytest.raises(NotFound):
            store.activate(name, version)


def test_a_version_that_is_not_there_is_not_found(store: Store) -> None:
    toy.publish(store)
    with pytest.raises(NotFound, match="no version"):
        store.activate("toy", "0123456789ab")


def test_an_active_version_is_found_by_its_models_and_its_tasks_name(store: Store) -> None:
    version = toy.publish(store).version
    with pytest.raises(NotFound, match="there are none"):
        store.resolve("toy")
    assert store.activate("toy", version) == Live(version)
    store.point("light", "toy")
    assert store.resolve("toy") == store.resolve("light") == ("toy", version)
    with pytest.raises(NotFound, match="there are light, toy"):
        store.resolve("dark")


def test_a_task_points_only_to_a_model_that_is_there(store: Store) -> None:
    toy.publish(store)
    with pytest.raises(NotFound):
        store.point("light", "nobody")
    with pytest.raises(NotFound):
        store.point("../light", "toy")


def test_rolling_back_returns_to_the_version_before_and_again_forward(store: Store) -> None:
    first, second = (toy.publish(store, constant=n).version for n in (1, 2))
    store.activate("toy", first)
    with pytest.raises(NotFound, match="no previous version"):
        store.rollback("toy")
    assert store.activate("toy", second) == Live(second, first)
    assert store.activate("toy", second) == Live(second, first)
    assert store.rollback("toy") == Live(first, second)
    assert store.rollback("toy") == Live(second, first)


def test_an_unloaded_model_is_not_served_until_it_is_activated_again(store: Store) -> None:
    version = toy.publish(store).version
    store.activate("toy", version)
    assert store.deactivate("toy") == Live(None, version)
    with pytest.raises(NotFound):
        store.resolve("toy")
    assert store.deactivate("toy") == Live(None, version)
    assert store.rollback("toy") == Live(version)


def test_the_state_folder_is_laid_over_the_release(tmp_path: Path) -> None:
    store = released(tmp_path)
    _, shipped = store.resolve("light")
    own = toy.publish(store, constant=1).version
    assert set(store.versions("toy")) == {shipped, own}
    assert store.activate("toy", own) == Live(own, shipped)
    assert store.resolve("light") == ("toy", own)
    assert Store(None, tmp_path / "release").resolve("light") == ("toy", shipped)
    assert store.rollback("toy") == Live(shipped, own)
    assert store.folder("toy", shipped).is_relative_to(tmp_path / "release")


def test_without_a_state_folder_everything_can_be_read_and_nothing_written(tmp_path: Path) -> None:
    store = Store(None, released(tmp_path).release)
    model, version = store.resolve("light")
    loading.load(store.folder(model, version))
    for write in (
        lambda: toy.publish(store),
        lambda: store.activate("toy", version),
        lambda: store.point("light", "toy"),
        lambda: store.deactivate("toy"),
    ):
        with pytest.raises(ReadOnly, match="VITRINE_STATE"):
            write()


def test_a_state_folder_that_cannot_be_made_is_read_only(tmp_path: Path) -> None:
    """In place of a folder without permissions, which would not stop root."""
    release = released(tmp_path).release
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "file", release)
    _, version = store.resolve("toy")
    with pytest.raises(ReadOnly, match="cannot write to the store"):
        toy.publish(store, constant=1)
    with pytest.raises(ReadOnly, match="cannot write to the store"):
        store.activate("toy", version)


DAMAGED = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"live": {}}',
    '{"live": [], "tasks": {}}',
    '{"live": {"toy": "0123456789ab"}, "tasks": {}}',
    '{"live": {"toy": {}}, "tasks": {}}',
    '{"live": {"toy": {"version": "../../etc"}}, "tasks": {}}',
    '{"live": {"toy": {"version": 7}}, "tasks": {}}',
    '{"live": {"../toy": {"version": null}}, "tasks": {}}',
    '{"live": {}, "tasks": {"light": null}}',
    '{"live": {}, "tasks": {"light": "../toy"}}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: text[:40])
def test_a_damaged_catalog_is_reported_and_never_overwritten(store: Store, text: str) -> None:
    version = toy.publish(store).version
    path = store.catalogs[0]
    path.write_text(text)
    for ask in (
        store.catalog,
        lambda: store.resolve("toy"),
        lambda: store.activate("toy", version),
    ):
        with pytest.raises(BadArtifact, match=r"^catalog.json: not a catalog"):
            ask()
    assert path.read_text() == text


def test_a_catalog_that_cannot_be_read_is_reported(store: Store) -> None:
    toy.publish(store)
    store.catalogs[0].mkdir()
    with pytest.raises(BadArtifact, match=r"^catalog.json: cannot be read"):
        store.catalog()


def test_a_deleted_catalog_is_an_empty_one(store: Store) -> None:
    store.activate("toy", toy.publish(store).version)
    store.catalogs[0].unlink()
    assert store.catalog() == Catalog()


def publish_and_activate(state: Path, constant: int) -> str:
    store = Store(state, state / "none")
    version = toy.publish(store, f"toy-{constant % 3}", constant=constant).version
    store.activate(f"toy-{constant % 3}", version)
    store.point(f"task-{constant}", f"toy-{constant % 3}")
    return version


def test_publishers_in_several_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Four processes, twelve jobs, every job twice: same versions, same catalog, at once."""
    jobs = [*range(6)] * 2
    spawn = multiprocessing.get_context("spawn")  # forking a process with threads is unsafe
    with ProcessPoolExecutor(4, mp_context=spawn) as pool:
        found = list(pool.map(publish_and_activate, [tmp_path] * len(jobs), jobs))
    store = Store(tmp_path, tmp_path / "none")
    assert found[:6] == found[6:]
    assert store.models() == ["toy-0", "toy-1", "toy-2"]
    for model in store.models():
        assert len(store.versions(model)) == 2
        for version in store.versions(model):
            loading.load(store.folder(model, version))
    assert set(store.catalog().tasks) == {f"task-{n}" for n in range(6)}
    assert set(store.catalog().live) == set(store.models())
    assert drafts(store) == []


PUBLISHER = """
import sys
from pathlib import Path
from artifacts.store import Store
from tests import toy
store = Store(Path(sys.argv[1]), Path(sys.argv[1]) / "none")
model, facts = toy.onnx_bytes(), toy.manifest()
samples = toy.samples(model, facts)
print("ready", flush=True)
for constant in range(1000):
    version = store.publish(toy.onnx_bytes(constant=constant), facts, samples).version
    store.activate("toy", version)
    print(version, flush=True)
"""


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", PUBLISHER, str(tmp_path / "state")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        yield process
        process.kill()


@pytest.mark.parametrize("moment", range(3))
def test_a_publisher_killed_at_any_moment_leaves_only_whole_versions(
    store: Store, publisher: subprocess.Popen[str], moment: int
) -> None:
    assert publisher.stdout is not None
    said = [publisher.stdout.readline().strip() for _ in range(3 + moment)]
    publisher.send_signal(signal.SIGKILL)
    publisher.wait()
    finished = said[1:]
    assert set(finished) <= set(store.versions("toy"))
    for version in store.versions("toy"):
        loading.load(store.folder("toy", version))
    assert store.resolve("toy")[1] in store.versions("toy")
    # Neither a lock nor a draft that was left behind stands in the way of the next.
    store.activate("toy", toy.publish(store, constant=-1).version)


def test_what_a_dead_publisher_left_is_swept_away_in_time(store: Store) -> None:
    toy.publish(store)
    assert store.written is not None
    stale, fresh = (store.written / "toy" / f".draft-{name}" for name in ("stale", "fresh"))
    for draft in (stale, fresh):
        draft.mkdir()
        (draft / "model.onnx").write_bytes(b"half")
    long_ago = time.time() - versions.STALE_DRAFT_S - 1
    os.utime(stale, (long_ago, long_ago))
    toy.publish(store, constant=1)
    assert drafts(store) == [fresh]


FULL = """
import resource, signal, sys
from pathlib import Path
from artifacts.store import ReadOnly, Store
from tests import toy
state = Path(sys.argv[1])
store = Store(state, state / "none")
model, facts = toy.onnx_bytes(constant=1), toy.manifest()
samples = toy.samples(model, facts)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    store.publish(model, facts, samples)
except ReadOnly as error:
    print("publish:", error)
try:
    store.activate("toy", store.versions("toy")[0])
except ReadOnly as error:
    print("activate:", error)
"""


def written_with_limit(state: Path, max_bytes: int) -> str:
    """What a publisher says that can write no file longer than `max_bytes`."""
    return subprocess.run(
        [sys.executable, "-c", FULL, str(state), str(max_bytes)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize("max_bytes", [0, 500])
def test_when_nothing_more_can_be_written_what_there_is_stays_whole(
    store: Store, tmp_path: Path, max_bytes: int
) -> None:
    """A limit on the length of files: it breaks a write in the middle, as a full disk does."""
    first, second = (toy.publish(store, constant=-n).version for n in (1, 2))
    store.activate("toy", second)
    before = store.catalogs[0].read_bytes()
    said = written_with_limit(tmp_path / "state", max_bytes)
    assert "publish: cannot write to the store" in said
    assert "File too large" in said
    if max_bytes == 0:
        assert "activate: cannot write to the store" in said
        assert store.catalogs[0].read_bytes() == before
    assert set(store.versions("toy")) == {first, second}
    assert drafts(store) == []
    json.loads(store.catalogs[0].read_bytes())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "vitrine-test", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def may_mount() -> bool:
    """Whether this process has the right (CAP_SYS_ADMIN, bit 21) to mount a file system."""
    status = Path("/proc/self/status").read_text()
    rights = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(rights, 16) >> 21 & 1)


if may_mount():  # everybody else has the two tests above, which break the same writes

    def test_a_full_disk_breaks_nothing_and_room_heals_it(small_disk: Path) -> None:
        store = Store(small_disk, small_disk / "none")
        first = toy.publish(store).version
        store.activate("toy", first)
        ballast = small_disk / "ballast"
        with ballast.open("wb", 0) as file, pytest.raises(OSError, match="No space left"):
            file.writelines(bytes(1024) for _ in range(100))
        with pytest.raises(ReadOnly, match="No space left on device"):
            toy.publish(store, constant=1)
        with pytest.raises(ReadOnly, match="No space left on device"):
            store.point("light", "toy")
        assert store.resolve("toy") == ("toy", first)
        loading.load(store.folder("toy", first))
        assert store.versions("toy") == [first]
        ballast.unlink()
        second = toy.publish(store, constant=1).version
        assert store.activate("toy", second) == Live(second, first)


def test_the_release_that_comes_with_the_code_is_whole() -> None:
    """Every committed version verifies, is small, and every live one is there."""
    store = Store(None)
    sizes = []
    for name in store.models():
        for version in store.versions(name):
            folder = store.folder(name, version)
            loading.load(folder, execution_provider="cpu")
            sizes.append(sum(path.stat().st_size for path in folder.iterdir()))
    assert max(sizes, default=0) <= 9_000_000
    assert sum(sizes) <= 40_000_000
    catalog = store.catalog()
    for model, live in catalog.live.items():
        assert live.version in store.versions(model)
    for task, model in catalog.tasks.items():
        _, version = store.resolve(task)
        assert contract.read(store.folder(model, version)).task == task
