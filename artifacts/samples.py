"""The golden samples of a version: samples.npz, read without trusting it."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from artifacts.manifest import SAMPLES_FILE, BadArtifact, Manifest

INPUT = "images"  # the model's input, and the array of sample images
MAX_ARRAY_BYTES = 32 * 1024**2  # unpacked
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def pack_samples(samples: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of samples.npz; the same arrays always give the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in samples.items():
            entry = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as file:
                npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return packed.getvalue()


def read_samples(data: bytes, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """The arrays of samples.npz: `images` uint8[N, ...], `probabilities` float32[N, K], `energy`
    float32[N] where the model has one.

    Raises BadArtifact for other names, shapes or types, an array over MAX_ARRAY_BYTES, and
    anything that is not a plain archive of plain arrays.
    """
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        INPUT: (np.uint8, manifest.input.shape),
        "probabilities": (np.float32, (len(manifest.classes),)),
    }
    if "energy" in manifest.outputs:
        wanted["energy"] = (np.float32, ())
    samples: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name, (kind, shape) in wanted.items():
                samples[name] = _array(archive, name, np.dtype(kind), shape)
    except BadArtifact:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser raise a dozen types
        raise BadArtifact(
            f"{SAMPLES_FILE}: not an archive of {', '.join(wanted)} ({type(error).__name__}); "
            "re-export"
        ) from error
    counts = {name: len(array) for name, array in samples.items()}
    if len(set(counts.values())) != 1 or not counts[INPUT]:
        raise BadArtifact(
            f"{SAMPLES_FILE}: lengths are {counts}, expected the same, at least 1; re-export"
        )
    return samples


def _array(
    archive: zipfile.ZipFile, name: str, kind: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """One array of an archive; its size is known before anything of it is unpacked."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type not in _PLAIN or entry.file_size > MAX_ARRAY_BYTES:
        raise BadArtifact(
            f"{SAMPLES_FILE}: {name} has {entry.file_size} bytes unpacked (compression "
            f"{entry.compress_type}), at most {MAX_ARRAY_BYTES} (0 or 8); re-export"
        )
    file = io.BytesIO(archive.read(entry))
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"npy format {version}")
    found, fortran, dtype = npy.read_array_header_1_0(file)
    if dtype != kind or found[1:] != shape or len(found) != len(shape) + 1 or fortran:
        raise BadArtifact(
            f"{SAMPLES_FILE}: {name} is {dtype}{list(found)}, expected "
            f"{kind}{['N', *shape]} with N at least 1; re-export"
        )
    # By the bytes that are there, never by the length that the header claims.
    flat = np.frombuffer(file.getbuffer(), dtype=kind, offset=file.tell())
    return flat.reshape(found)
