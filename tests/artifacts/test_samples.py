"""samples.npz: read by what is in it, never by what it claims."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from artifacts import samples as golden
from artifacts.manifest import BadArtifact
from tests import toy

MANIFEST = toy.manifest()
ARRAYS: dict[str, NDArray[Any]] = {
    "images": toy.white(3),
    "probabilities": np.array([[0.9, 0.1]] * 3, np.float32),
    "energy": np.array([-1, -2, -3], np.float32),
}
PACKED = golden.pack_samples(ARRAYS)


def npy(array: NDArray[Any], **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def archive(compression: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """A zip file of npy members; those not given are the good ones."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as packed:
        for name in ARRAYS:
            packed.writestr(f"{name}.npy", members.get(name, npy(ARRAYS[name])))
    return file.getvalue()


def header(text: str) -> bytes:
    """An npy file whose header says what it likes, without any data."""
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def test_what_is_packed_is_read_back() -> None:
    found = golden.read_samples(PACKED, MANIFEST)
    assert {name: array.tolist() for name, array in found.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }


def test_the_same_arrays_give_the_same_bytes() -> None:
    assert golden.pack_samples(ARRAYS) == PACKED


def test_an_archive_of_numpys_own_is_read_too() -> None:
    file = io.BytesIO()
    np.savez(file, images=ARRAYS["images"], probabilities=ARRAYS["probabilities"], energy=[1.0])
    with pytest.raises(BadArtifact, match=r"energy is float64\[1\]"):
        golden.read_samples(file.getvalue(), MANIFEST)
    assert golden.read_samples(archive(zipfile.ZIP_STORED), MANIFEST)["energy"].tolist() == [
        -1,
        -2,
        -3,
    ]


def test_a_model_without_energy_needs_none() -> None:
    plain = toy.manifest(outputs=("probabilities",), alien=None)
    few = {name: ARRAYS[name] for name in ("images", "probabilities")}
    assert set(golden.read_samples(golden.pack_samples(few), plain)) == set(few)


def test_pickles_are_neither_written_nor_read() -> None:
    with pytest.raises(ValueError, match="pickle"):
        golden.pack_samples({"images": np.array([print], object)})
    hidden = npy(np.array([[1]], object), allow_pickle=True)
    with pytest.raises(BadArtifact, match=r"images is object"):
        golden.read_samples(archive(images=hidden), MANIFEST)
    with pytest.raises(BadArtifact, match="not an archive"):
        golden.read_samples(archive(images=pickle.dumps(print)), MANIFEST)


@pytest.mark.parametrize("name", ARRAYS)
def test_a_missing_array_is_refused(name: str) -> None:
    few = {key: array for key, array in ARRAYS.items() if key != name}
    with pytest.raises(BadArtifact, match="not an archive of images, probabilities, energy"):
        golden.read_samples(golden.pack_samples(few), MANIFEST)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("images", toy.white(3).astype(np.int16)),
        ("images", toy.white(3)[:, :20]),
        ("images", np.uint8(7)),
        ("images", np.asfortranarray(toy.white(3))),
        ("probabilities", np.zeros((3, 3), np.float32)),
        ("probabilities", np.zeros((3, 2), np.dtype(">f4"))),
        ("energy", np.zeros((3, 1), np.float32)),
    ],
)
def test_another_type_or_shape_is_refused(name: str, array: NDArray[Any]) -> None:
    with pytest.raises(BadArtifact, match=rf"{name} is .* expected .*'N'"):
        golden.read_samples(
            archive(zipfile.ZIP_STORED, **{name: npy(np.asanyarray(array))}), MANIFEST
        )


def test_arrays_of_different_or_no_length_are_refused() -> None:
    with pytest.raises(BadArtifact, match="lengths are"):
        golden.read_samples(golden.pack_samples(ARRAYS | {"images": toy.white(2)}), MANIFEST)
    none = {name: array[:0] for name, array in ARRAYS.items()}
    with pytest.raises(BadArtifact, match="at least 1"):
        golden.read_samples(golden.pack_samples(none), MANIFEST)


def test_a_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = archive(images=b"\0" * (golden.MAX_ARRAY_BYTES + 1))
    assert len(bomb) < golden.MAX_ARRAY_BYTES / 500
    with pytest.raises(BadArtifact, match="bytes unpacked"):
        golden.read_samples(bomb, MANIFEST)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression_is_refused(method: int) -> None:
    with pytest.raises(BadArtifact, match=f"compression {method}"):
        golden.read_samples(archive(method), MANIFEST)


def test_a_header_that_claims_a_trillion_images_allocates_nothing() -> None:
    claim = "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 28, 28)}"
    with pytest.raises(BadArtifact, match="not an archive"):
        golden.read_samples(archive(images=header(claim)), MANIFEST)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "print('hello')",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 28, 28)}",
        "{'descr': ('|u1', 5), 'fortran_order': False, 'shape': (1, 28, 28)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': 'many'}",
        "(" * 100,
    ],
)
def test_a_hostile_header_is_refused(text: str) -> None:
    with pytest.raises(BadArtifact):
        golden.read_samples(archive(images=header(text)), MANIFEST)


def test_a_later_npy_format_is_refused() -> None:
    with pytest.raises(BadArtifact, match="not an archive"):
        golden.read_samples(archive(images=npy(ARRAYS["images"], version=(2, 0))), MANIFEST)


def test_a_truncated_archive_is_refused_wherever_it_was_cut() -> None:
    for length in range(0, len(PACKED), 7):
        with pytest.raises(BadArtifact, match=r"^samples.npz: "):
            golden.read_samples(PACKED[:length], MANIFEST)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadArtifact, match=r"^samples.npz: "):
        golden.read_samples(data, MANIFEST)


@given(st.integers(0, len(PACKED) - 1), st.integers(0, 255))
def test_a_flipped_byte_changes_nothing_or_is_refused(at: int, byte: int) -> None:
    data = bytearray(PACKED)
    data[at] = byte
    try:
        found = golden.read_samples(bytes(data), MANIFEST)
    except BadArtifact:
        return
    assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)
