"""The live models of a process: swapped under load, kept when the new one is broken, evicted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from artifacts.store import NotFound, Store
from service.batcher import Ran
from service.models import Models, NotReady
from service.settings import Settings
from tests import toy


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Empty, without the release's models."""
    return Store(tmp_path / "state", release=tmp_path / "release")


@asynccontextmanager
async def started(store: Store, **changes: Any) -> AsyncIterator[Models]:
    assert store.written is not None
    models = Models(store, Settings(state=store.written.parent, **changes))
    await models.start()
    try:
        yield models
    finally:
        await models.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def live(store: Store, name: str = "toy", **of: Any) -> str:
    """Publish and activate; the version."""
    version = toy.publish(store, name, **of).version
    store.activate(name, version)
    return version


def first(ran: Ran) -> int:
    return int(ran.outputs.probabilities[0].argmax())


async def test_a_swap_under_load_loses_no_request(store: Store) -> None:
    live(store)
    store.point("light", "toy")
    async with started(store) as models:
        held = models.get("light")  # a request that is still decoding when the swap comes
        assert held is not None
        answers: list[int] = []
        done = asyncio.Event()

        async def client() -> None:
            while not done.is_set():
                now = models.get("light")
                assert now is not None
                ran = await now.batcher.submit(toy.white(), time.perf_counter() + 20)
                answers.append(first(ran))
                await asyncio.sleep(0)

        clients = [asyncio.create_task(client()) for _ in range(8)]
        new = live(store, sign=-1)
        await until(lambda: (now := models.get("light")) is not None and now.version == new)
        assert models.retired() == [held]
        ran = await held.batcher.submit(toy.white(), time.perf_counter() + 20)
        assert first(ran) == 0
        count = len(answers)
        await until(lambda: len(answers) > count + 100)
        done.set()
        await asyncio.gather(*clients)
        assert set(answers) == {0, 1}
        assert answers[-1] == 1


async def test_a_broken_version_is_refused_and_the_old_one_goes_on(store: Store) -> None:
    good = live(store)
    async with started(store, models=("toy",)) as models:
        broken = toy.publish(store, constant=1).version
        file = store.folder("toy", broken) / "model.onnx"
        file.write_bytes(file.read_bytes()[:-1])
        store.activate("toy", broken)
        await until(lambda: "toy" in models.failures)
        assert broken in models.failures["toy"]
        now = models.get("toy")
        assert now is not None
        assert now.version == good
        store.rollback("toy")
        await until(lambda: not models.failures)
        assert models.get("toy") is now


async def test_why_a_version_does_not_load_is_told_without_a_path(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    version = live(store)
    place = store.folder("toy", version)

    def unreadable(*_named: str) -> Path:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr(store, "folder", unreadable)
    async with started(store, models=("toy",)) as models:
        assert models.failures["toy"].startswith(f"version {version} is refused: Permission denied")
        assert str(place) not in models.failures["toy"]
    assert str(place) in caplog.text


async def test_a_model_without_a_task_is_loaded_on_first_use(store: Store) -> None:
    live(store)
    async with started(store) as models:
        assert models.get("toy") is None
        found = await asyncio.gather(*(models.obtain("toy") for _ in range(5)))
        assert len(set(map(id, found))) == 1
        assert models.get("toy") is found[0]


async def test_the_model_used_longest_ago_makes_room(store: Store) -> None:
    for name in ("a", "b", "c"):
        live(store, name)
    async with started(store, max_loaded=2) as models:
        one, two = await models.obtain("a"), await models.obtain("b")
        two.used = one.used - 1
        await models.obtain("c")
        assert [kept.name for kept in models.live()] == ["a", "c"]
        assert (await models.obtain("b")).name == "b"


async def test_an_unloaded_model_is_not_found_until_a_version_is_activated(store: Store) -> None:
    version = live(store)
    store.point("light", "toy")
    async with started(store) as models:
        store.deactivate("toy")
        await until(lambda: models.get("light") is None)
        with pytest.raises(NotFound):
            await models.obtain("light")
        store.activate("toy", version)
        await until(lambda: models.get("light") is not None)


async def test_a_name_in_the_settings_may_be_a_task_or_a_mistake(store: Store) -> None:
    live(store)
    live(store, "other")
    store.point("light", "toy")
    async with started(store, models=("light", "other", "oter")) as models:
        assert [loaded.name for loaded in models.live()] == ["other", "toy"]
        assert "VITRINE_MODELS" in models.failures["oter"]
        assert models.ready


async def test_a_broken_model_of_a_task_is_told_by_readiness(store: Store) -> None:
    version = live(store)
    store.point("light", "toy")
    samples = store.folder("toy", version) / "samples.npz"
    whole = samples.read_bytes()
    samples.write_bytes(b"damaged")
    async with started(store) as models:
        assert not models.ready
        with pytest.raises(NotReady, match=r"samples\.npz"):
            await models.obtain("light")
        samples.write_bytes(whole)
        store.activate("toy", version)  # the same again: try once more
        await until(lambda: models.ready)


async def test_a_damaged_catalog_is_not_ready_and_is_read_again_when_it_is_mended(
    store: Store,
) -> None:
    live(store)
    store.point("light", "toy")
    catalog = store.catalogs[0]
    text = catalog.read_text()
    catalog.write_text("{")
    async with started(store) as models:
        assert not models.ready
        assert "catalog.json" in models.failures
        catalog.write_text(text)
        await until(lambda: models.ready)
        catalog.write_text("{}")
        await until(lambda: "catalog.json" in models.failures)
        assert models.get("light") is not None


async def test_workers_confirm_what_they_serve(store: Store) -> None:
    version = live(store)
    async with started(store, models=("toy",)) as models:
        assert await models.lagging("toy", version, 5.0) == (0, 1)
        behind, workers = await models.lagging("toy", "0" * 12, 0.0)
        assert (behind, workers) == (1, 1)
