"""The manifest: what is read back is what was written, and nothing else is let in."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest, Threshold
from tests import toy

FILES = {"model.onnx": b"model", "samples.npz": b"samples"}


def sealed(**changes: Any) -> Manifest:
    return contract.seal(toy.manifest(**changes), FILES)


def record(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(sealed().to_json())
    return whole | changes


def write(folder: Path, manifest: Manifest) -> Path:
    folder = folder / manifest.version
    folder.mkdir()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    manifest = sealed()
    folder = write(tmp_path, manifest)
    assert contract.read(folder) == manifest
    assert contract.check_files(folder, manifest) == FILES


def test_classes_are_the_english_labels() -> None:
    assert sealed().classes == ("bright", "dark")


def test_an_input_has_a_channel_axis_only_in_colour() -> None:
    grey = toy.manifest().input
    assert grey.shape == (28, 28)
    assert replace(grey, mode="RGB").shape == (28, 28, 3)


def test_static_facts_are_texts_known_before_any_measurement() -> None:
    facts = sealed().static_facts()
    assert set(facts) == {"name", "task", "labels", "input", "recipe"}
    assert json.loads(facts["labels"])["pt"] == ["claro", "escuro"]
    assert facts["recipe"] == "toy"


@pytest.mark.parametrize(
    "changes",
    [
        {"uncertain": Threshold(value=0.7, rate=0.02)},
        {"quantiles": {"0.90": 0.4}},
        {"labels": {"en": ("light", "dark"), "pt": ("claro", "escuro")}},
        {"references": {}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_behaviour_decides_the_version(changes: dict[str, Any]) -> None:
    assert sealed(**changes).version != sealed().version


def test_so_do_the_models_bytes() -> None:
    assert contract.version_of(b"a", toy.manifest()) != contract.version_of(b"b", toy.manifest())


def test_notes_and_records_do_not_decide_the_version() -> None:
    noted = sealed(notes="better", provenance={"seed": 1}, created="2027-01-01T00:00:00+00:00")
    assert noted.version == sealed().version


def test_numbers_and_sequences_of_another_type_give_the_version_that_is_read_back(
    tmp_path: Path,
) -> None:
    manifest = sealed(
        uncertain=Threshold(value=1, rate=0),
        references={"classes": (0.5, 0.5), "ink": {"edges": (1, 2), "shares": (0, 0, 1)}},
    )
    assert contract.check_files(
        write(tmp_path, manifest), contract.read(tmp_path / manifest.version)
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"], ids=repr)
def test_what_json_cannot_hold_cannot_be_sealed(value: object) -> None:
    with pytest.raises(BadArtifact, match="cannot be written as JSON"):
        sealed(provenance={"value": value})


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "samples.npz"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, sealed())
    (folder / name).unlink()
    with pytest.raises(BadArtifact, match=f"^{name}: missing"):
        contract.check_files(folder, contract.read(folder))


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "samples.npz"])
def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused_at_once(
    tmp_path: Path, name: str
) -> None:
    folder = write(tmp_path, sealed())
    manifest = contract.read(folder)
    for make in (os.mkdir, os.mkfifo):
        path = folder / name
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        with pytest.raises(BadArtifact, match=f"^{name}: (no plain file|cannot be read)"):
            contract.check_files(folder, contract.read(folder) if "json" in name else manifest)


def test_a_file_that_leads_round_in_a_circle_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").symlink_to("manifest.json")
    with pytest.raises(BadArtifact, match=r"^manifest.json: cannot be read"):
        contract.read(tmp_path)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "samples.npz"])
def test_a_file_of_absurd_size_is_not_read_whole(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, sealed())
    manifest = contract.read(folder)
    monkeypatch.setitem(contract.MAX_BYTES, name, 4)
    with pytest.raises(BadArtifact, match=f"^{name}: over 4 bytes"):
        contract.check_files(folder, contract.read(folder) if "json" in name else manifest)


@pytest.mark.parametrize("name", ["model.onnx", "samples.npz"])
def test_a_changed_file_is_named_with_both_hashes(tmp_path: Path, name: str) -> None:
    manifest = sealed()
    folder = write(tmp_path, manifest)
    (folder / name).write_bytes(b"tampered")
    wanted = manifest.files[name][:12]
    with pytest.raises(BadArtifact, match=f"^{name}: sha256 is [0-9a-f]{{12}}.* says {wanted}"):
        contract.check_files(folder, manifest)


def test_a_file_without_a_hash_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, sealed())
    with pytest.raises(BadArtifact, match="says nothing"):
        contract.check_files(folder, replace(contract.read(folder), files={}))


def test_a_threshold_changed_by_hand_is_found_out(tmp_path: Path) -> None:
    folder = write(tmp_path, sealed())
    changed = replace(contract.read(folder), uncertain=Threshold(value=0.0, rate=0.0))
    (folder / "manifest.json").write_text(changed.to_json())
    with pytest.raises(BadArtifact, match="version computes to"):
        contract.check_files(folder, contract.read(folder))


def test_a_renamed_folder_is_found_out(tmp_path: Path) -> None:
    folder = write(tmp_path, sealed()).rename(tmp_path / "0123456789ab")
    with pytest.raises(BadArtifact, match="the folder 0123456789ab"):
        contract.check_files(folder, contract.read(folder))


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' * 100_000, b"1" * 10_000],
    ids=["empty", "cut", "no-text", "deep-list", "deep-object", "long-number"],
)
def test_a_file_that_is_no_json_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(text)
    with pytest.raises(BadArtifact, match=r"^manifest.json: not JSON"):
        contract.read(tmp_path)


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.0, [1]], ids=repr)
def test_an_unknown_schema_is_refused(schema: object) -> None:
    with pytest.raises(BadArtifact, match="schema is"):
        contract.from_record(record(schema=schema))


def test_fields_of_a_later_release_are_passed_over() -> None:
    assert contract.from_record(record(later={"x": 1})) == sealed()


def test_a_model_that_was_never_evaluated_has_no_figures() -> None:
    assert contract.from_record(record(test={})).test == {}


@pytest.mark.parametrize("found", [[], "text", None, 3])
def test_only_an_object_is_a_manifest(found: object) -> None:
    with pytest.raises(BadArtifact, match="expected a JSON object"):
        contract.from_record(found)


@pytest.mark.parametrize("field", sorted({*record()} - {"alien"}))
def test_every_field_must_be_there(field: str) -> None:
    whole = record()
    del whole[field]
    with pytest.raises(BadArtifact, match=field):
        contract.from_record(whole)


BAD: dict[str, list[Any]] = {
    "name": ["", "../up", "Upper", "a" * 65, "a/b", "a\n", 7],
    "task": ["", "..", "a b"],
    "version": ["", "0123456789AB", "0123456789abc"],
    "labels": [
        {},
        {"pt": ["a", "b"]},
        {"en": ["one"]},
        {"en": ["one", "one"]},
        {"en": ["one", ""]},
        {"en": ["one", 2]},
        {"en": ["one", ["two"]]},
        {"en": ["one", "two"], "pt": ["um"]},
        {"en": ["one", "two\x1b[31m"]},
        {"en": [str(n) for n in range(1001)]},
    ],
    "input": [
        {},
        {"height": 0, "width": 28, "mode": "L", "canonicaliser": "digit"},
        {"height": 28, "width": 99999, "mode": "L", "canonicaliser": "digit"},
        {"height": 28.0, "width": 28, "mode": "L", "canonicaliser": "digit"},
        {"height": True, "width": 28, "mode": "L", "canonicaliser": "digit"},
        {"height": 28, "width": 28, "mode": "CMYK", "canonicaliser": "digit"},
        {"height": 28, "width": 28, "mode": ["L"], "canonicaliser": "digit"},
        {"height": 28, "width": 28, "mode": "L", "canonicaliser": "letters"},
    ],
    "outputs": [[], ["energy"], ["energy", "probabilities"], "probabilities"],
    "uncertain": [{}, None, {"value": "0.5", "rate": 0}, {"value": 10**400, "rate": 0}],
    "alien": [None, [], 3, {"value": 1, "rate": 2}, {"value": 1, "rate": True}],
    "quantiles": [{"0.95": "x"}, {"0.95": 2}, {"95": 0.5}, {"0.9\n": 0.5}],
    "references": [
        {"classes": [1.0]},
        {"classes": [0.5, "x"]},
        {"classes": {}},
        {"ink": [0.5]},
        {"ink": {"edges": [0.5], "shares": [1.0]}},
        {"ink": {"edges": [0.5, 0.2], "shares": [0.1, 0.1, 0.8]}},
        {"ink": {"edges": [0.5, 0.5], "shares": [0.1, 0.1, 0.8]}},
        {"ink": {"edges": ["x"], "shares": [0.1, 0.9]}},
    ],
    "created": ["", "yesterday", "2026-01-01T00:00:00", "2026-01-01T00:00:00+02:00"],
    "parameters": [-1, 1.5, "many", False],
    "macs": [-1, None],
    "test": [
        {"count": 10},
        {"count": 0, "correct": 0, "accuracy": 0.0, "interval": [0, 1]},
        {"count": 10, "correct": 11, "accuracy": 1.0, "interval": [0, 1]},
        {"count": 10, "correct": 5, "accuracy": 0.9, "interval": [0, 1]},
        {"count": 10, "correct": 5, "accuracy": 0.5, "interval": [0]},
        {"count": 10, "correct": 5, "accuracy": 0.5, "interval": [0, 1], "confusion": [[1]]},
        {"count": 2, "correct": 1, "accuracy": 0.5, "interval": [0, 1], "confusion": [[1, -1]] * 2},
        {"count": 2, "correct": 1, "accuracy": 0.5, "interval": [0, 1], "classes": [{}]},
    ],
    "provenance": [[], None],
    "notes": [None, "\ud800"],
    "files": [{"model.onnx": 3}, [], None],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in BAD.items() for value in values]
)
def test_a_wrong_field_is_refused(field: str, value: object) -> None:
    with pytest.raises(BadArtifact, match=f"manifest.json: ({field}|holds what JSON cannot)"):
        contract.from_record(record(**{field: value}))


def test_an_error_shows_no_more_than_a_glimpse_of_what_it_found() -> None:
    with pytest.raises(BadArtifact) as caught:
        contract.from_record(record(name="x" * 1_000_000))
    assert len(str(caught.value)) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def paths(value: object, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every part of a JSON value, itself included."""
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    return [at, *(path for key, part in inner for path in paths(part, (*at, key)))]


@given(path=st.sampled_from(paths(record())), value=JSON)
def test_whatever_stands_in_a_field_the_manifest_is_good_or_a_bad_artifact(
    path: tuple[Any, ...], value: Any
) -> None:
    whole: Any = record()
    part = whole
    for key in path[:-1]:
        part = part[key]
    if path:
        part[path[-1]] = value
    else:
        whole = value
    try:
        manifest = contract.from_record(whole)
    except BadArtifact:
        return
    assert contract.from_record(json.loads(manifest.to_json())) == manifest
    assert len(manifest.behaviour()) > 0


@given(st.binary(max_size=200))
def test_random_bytes_are_no_manifest(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("random")
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(BadArtifact):
        contract.read(folder)
