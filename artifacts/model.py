"""A loaded version: uint8 pixels in, probabilities out, through ONNX Runtime on CPU or CUDA."""

from __future__ import annotations

import io
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest

Choice = Literal["auto", "cpu", "cuda"]
Provider = Literal["cpu", "cuda"]

INPUT = "images"
# How far a golden sample may be from the answer stored at export. Kernels differ between CPUs.
TOLERANCE: dict[Provider, float] = {"cpu": 1e-4, "cuda": 1e-3}
MAX_SAMPLES_BYTES = 64 * 1024 * 1024  # unpacked
VERIFY_LIMIT_S = 30.0  # a graph still running its samples by then never ends

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class NoProvider(Exception):
    """The execution provider that was asked for cannot be used on this machine."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model says of N images: probabilities float32[N, K]; energy float32[N] or None."""

    probabilities: NDArray[np.float32]
    energy: NDArray[np.float32] | None

    def __getitem__(self, rows: slice) -> Outputs:
        """The outputs of some of the rows, as views."""
        return Outputs(self.probabilities[rows], None if self.energy is None else self.energy[rows])

    def __len__(self) -> int:
        return len(self.probabilities)


class Model:
    """One version in memory. Safe to call from several threads; runs on the calling thread.

    `provider` is what ONNX Runtime really uses, not what was asked for.
    """

    def __init__(self, session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
        self.manifest = manifest
        self.provider: Provider = "cuda" if _CUDA in session.get_providers() else "cpu"
        self._session = session
        self._names = list(manifest.outputs)

    def predict(self, pixels: NDArray[np.uint8]) -> Outputs:
        """The answers for `pixels`: uint8[N, H, W] or uint8[N, H, W, 3], N at least 1.

        Raises ValueError for any other shape or type.
        """
        wanted = self.manifest.input.shape
        if pixels.dtype != np.uint8 or pixels.shape[1:] != wanted or not len(pixels):
            raise ValueError(
                f"pixels are {pixels.dtype}{list(pixels.shape)}, expected uint8{['N', *wanted]}"
            )
        answers = self._session.run(self._names, {INPUT: pixels})
        return Outputs(answers[0], answers[1] if len(answers) > 1 else None)

    def verify(self, samples: dict[str, NDArray[Any]]) -> None:
        """Run the golden samples; raises BadArtifact if the model no longer answers as it did."""
        images, wanted = samples[INPUT], samples["probabilities"]
        found = _run_bounded(self, images)
        limit = TOLERANCE[self.provider]
        away = float(np.abs(found.probabilities - wanted).max())
        if not away <= limit:  # not <=, so that a NaN is refused too
            raise _changed("probabilities", away, limit)
        top_two = np.sort(wanted, axis=1)[:, -2:]
        sure = top_two[:, 1] - top_two[:, 0] > 2 * limit
        moved = (found.probabilities.argmax(axis=1) != wanted.argmax(axis=1)) & sure
        if moved.any():
            raise BadArtifact(
                f"{contract.MODEL_FILE}: golden sample {int(moved.argmax())} has another label "
                "than at export; re-export, or restore the file"
            )
        if found.energy is not None:
            stored = samples["energy"]
            scale = np.maximum(1.0, np.abs(stored))
            away = float((np.abs(found.energy - stored) / scale).max())
            if not away <= limit:
                raise _changed("energy", away, limit)


def load(folder: Path, *, execution_provider: Choice = "auto", threads: int = 1) -> Model:
    """The model of a version folder, its hashes, signature and golden samples checked.

    `threads` is ONNX Runtime's intra-op thread count. Raises BadArtifact for anything wrong with
    the folder, NoProvider when `cuda` was asked for and cannot be had.
    """
    manifest = contract.read(folder)
    contents = contract.check_files(folder, manifest)
    samples = read_samples(contents[contract.SAMPLES_FILE], manifest)
    model = from_bytes(
        contents[contract.MODEL_FILE],
        manifest,
        execution_provider=execution_provider,
        threads=threads,
    )
    model.verify(samples)
    return model


def from_bytes(
    data: bytes, manifest: Manifest, *, execution_provider: Choice = "auto", threads: int = 1
) -> Model:
    """A model from the bytes of an ONNX file, its inputs and outputs checked, no samples run."""
    providers = providers_for(execution_provider)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors come as exceptions; warnings would go to stderr raw
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if providers == [_CPU]:  # no cost in speed, half the memory; batches then need no padding
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(
            data, options, providers=[(name, _OPTIONS.get(name, {})) for name in providers]
        )
    except Exception as error:  # ONNX Runtime raises many types, its own and pybind's
        raise BadArtifact(
            f"{contract.MODEL_FILE}: ONNX Runtime cannot load it ({type(error).__name__}); "
            "re-export, or restore the file"
        ) from error
    if execution_provider == "cuda" and _CUDA not in session.get_providers():
        raise NoProvider("cuda was asked for, but ONNX Runtime fell back to the CPU; " + _ADVICE)
    _check_signature(session, manifest)
    return Model(session, manifest)


def usable_providers() -> list[Provider]:
    """The providers this installation offers; whether CUDA's libraries load, loading tells."""
    return ["cuda", "cpu"] if _CUDA in onnxruntime.get_available_providers() else ["cpu"]


def providers_for(choice: Choice) -> list[str]:
    """ONNX Runtime's names for a choice. Raises NoProvider, ValueError for an unknown choice."""
    if choice not in get_args(Choice):
        raise ValueError(f"execution provider is {choice!r}, expected auto, cpu or cuda")
    if choice == "cpu":
        return [_CPU]
    if "cuda" in usable_providers():
        # The CUDA libraries come as wheels that the loader does not search by itself.
        onnxruntime.preload_dlls()
        return [_CUDA, _CPU]
    if choice == "cuda":
        raise NoProvider(
            "cuda was asked for, but this ONNX Runtime has only "
            f"{', '.join(onnxruntime.get_available_providers())}; " + _ADVICE
        )
    return [_CPU]


_ADVICE = "install the gpu extra and a driver, or ask for auto or cpu"
_OPTIONS = {
    # EXHAUSTIVE (the default) searches anew for every batch size.
    _CUDA: {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
}


def read_samples(data: bytes, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """The arrays of samples.npz, their names, shapes and types checked. Raises BadArtifact."""
    classes = len(manifest.classes)
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        INPUT: (np.uint8, manifest.input.shape),
        "probabilities": (np.float32, (classes,)),
    }
    if "energy" in manifest.outputs:
        wanted["energy"] = (np.float32, ())
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_SAMPLES_BYTES:
            raise BadArtifact(
                f"{contract.SAMPLES_FILE}: {size} bytes unpacked, at most {MAX_SAMPLES_BYTES}; "
                "re-export"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            samples = {name: archive[name] for name in wanted}
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadArtifact(
            f"{contract.SAMPLES_FILE}: not an archive of {', '.join(wanted)}; re-export"
        ) from error
    count = len(samples[INPUT]) if samples[INPUT].ndim else 0
    for name, (kind, shape) in wanted.items():
        array = samples[name]
        if array.dtype != kind or array.shape != (count, *shape) or not count:
            raise BadArtifact(
                f"{contract.SAMPLES_FILE}: {name} is {array.dtype}{list(array.shape)}, expected "
                f"{np.dtype(kind)}{['N', *shape]} with N at least 1; re-export"
            )
    return samples


def _check_signature(session: onnxruntime.InferenceSession, manifest: Manifest) -> None:
    classes = len(manifest.classes)
    shapes: dict[str, tuple[int, ...]] = {"probabilities": (classes,), "energy": ()}
    wanted = {INPUT: ("tensor(uint8)", manifest.input.shape)}
    _compare("inputs", session.get_inputs(), wanted)
    _compare(
        "outputs",
        session.get_outputs(),
        {name: ("tensor(float)", shapes[name]) for name in manifest.outputs},
    )


def _compare(what: str, found: list[Any], wanted: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Names, types and shapes; the first dimension must be free."""
    shown = [f"{node.name}: {node.type}{node.shape}" for node in found]
    same = {node.name: (node.type, tuple(node.shape[1:])) for node in found} == wanted
    free = all(node.shape and not isinstance(node.shape[0], int) for node in found)
    if not (same and free):
        expected = [f"{name}: {kind}{['N', *shape]}" for name, (kind, shape) in wanted.items()]
        raise BadArtifact(
            f"{contract.MODEL_FILE}: {what} are {', '.join(shown)}; expected "
            f"{', '.join(expected)}; re-export"
        )


def _run_bounded(model: Model, images: NDArray[np.uint8]) -> Outputs:
    """`predict`, ended by ONNX Runtime itself if a hostile graph loops for ever."""
    options = onnxruntime.RunOptions()
    timer = threading.Timer(VERIFY_LIMIT_S, lambda: setattr(options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        answers = model._session.run(model._names, {INPUT: images}, options)
    except Exception as error:
        raise BadArtifact(
            f"{contract.MODEL_FILE}: does not run on its golden samples "
            f"({type(error).__name__}); re-export, or restore the file"
        ) from error
    finally:
        timer.cancel()
    outputs = Outputs(answers[0], answers[1] if len(answers) > 1 else None)
    classes = len(model.manifest.classes)
    if outputs.probabilities.shape != (len(images), classes):
        raise BadArtifact(
            f"{contract.MODEL_FILE}: answers {len(images)} samples with "
            f"{list(outputs.probabilities.shape)} probabilities; re-export"
        )
    return outputs


def _changed(what: str, away: float, limit: float) -> BadArtifact:
    return BadArtifact(
        f"{contract.MODEL_FILE}: {what} of the golden samples differ by {away:.2g} from those at "
        f"export, at most {limit:g} is allowed; re-export, or restore the file"
    )
