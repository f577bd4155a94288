"""A loaded version: uint8 pixels in, probabilities out, through ONNX Runtime on CPU or CUDA."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from artifacts import gpus, graph
from artifacts import manifest as contract
from artifacts.manifest import BadArtifact, Manifest
from artifacts.samples import INPUT as INPUT
from artifacts.samples import read_samples as read_samples

Choice = Literal["auto", "cpu", "cuda"]
Provider = Literal["cpu", "cuda"]

# How far a golden sample may be from the answer stored at export. Kernels differ between CPUs.
TOLERANCE: dict[Provider, float] = {"cpu": 1e-4, "cuda": 1e-3}
TRIAL_LIMIT_S = 30.0  # for the golden samples; a graph that needs longer is of no use here
TRIAL_LIMIT_BYTES = 1024**3  # weights and activations of the trial
TRIAL_ROWS = 8  # images at a time, so that a large net stays far below the limit

# Images that a CPU core runs at once: what the layers hand on of so many stays in its own cache.
# All 32 of a batch at once take 4 % longer each, 64 take 8 %; 8 are as good.
SLICE = 16

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
        if self.provider == "cuda" or len(pixels) <= SLICE:
            answers = self._session.run(self._names, {INPUT: pixels})
        else:
            parts = [
                self._session.run(self._names, {INPUT: pixels[first : first + SLICE]})
                for first in range(0, len(pixels), SLICE)
            ]
            answers = [np.concatenate(part) for part in zip(*parts, strict=True)]
        return Outputs(answers[0], answers[1] if len(answers) > 1 else None)

    def verify(self, samples: dict[str, NDArray[Any]]) -> None:
        """Run the golden samples; raises BadArtifact if the model no longer answers as it did."""
        images, wanted = samples[INPUT], samples["probabilities"]
        limit = TOLERANCE[self.provider]
        # Within the tolerance, no row whose two best are further apart than twice that can change
        # its label, so labels need no check of their own.
        # The first alone and then all: a graph may have a batch size built in.
        for found in (self._sample_outputs(images[:1]), self._sample_outputs(images)):
            _near("probabilities", found.probabilities, wanted[: len(found)], limit)
            if found.energy is not None:
                stored = samples["energy"][: len(found)]
                # Relative: energies of a confident net are in the tens.
                _near("energy", found.energy, stored, limit, np.maximum(1.0, np.abs(stored)))
        if not np.allclose(found.probabilities.sum(axis=1), 1.0, atol=1e-3):
            raise BadArtifact(
                f"{contract.MODEL_FILE}: probabilities of the golden samples do not add up to 1; "
                "the graph must end in a softmax or its like; re-export"
            )

    def _sample_outputs(self, images: NDArray[np.uint8]) -> Outputs:
        try:
            found = self.predict(images)
        except Exception as error:  # ONNX Runtime raises many types, its own and pybind's
            raise _does_not_run(type(error).__name__) from error
        classes = len(self.manifest.classes)
        shapes = [found.probabilities.shape]
        shapes += [] if found.energy is None else [found.energy.shape]
        if shapes != [(len(images), classes), (len(images),)][: len(shapes)]:
            raise BadArtifact(
                f"{contract.MODEL_FILE}: answers {len(images)} images with outputs of shape "
                f"{' and '.join(str(list(shape)) for shape in shapes)}; re-export"
            )
        return found


def load(
    folder: Path, *, execution_provider: Choice = "auto", threads: int = 1, device: int = 0
) -> Model:
    """The model of a version folder, its hashes, signature and golden samples checked.

    `threads` is ONNX Runtime's intra-op thread count, `device` the GPU's number if one is used.
    Raises BadArtifact for anything wrong with the folder, NoProvider when `cuda` was asked for and
    cannot be had.
    """
    manifest = contract.read(folder)
    contents = contract.check_files(folder, manifest)
    samples = read_samples(contents[contract.SAMPLES_FILE], manifest)
    data = contents[contract.MODEL_FILE]
    graph.check(data)
    _try_out(data, manifest, samples[INPUT])
    model = from_bytes(
        data, manifest, execution_provider=execution_provider, threads=threads, device=device
    )
    model.verify(samples)
    return model


def from_bytes(
    data: bytes,
    manifest: Manifest,
    *,
    execution_provider: Choice = "auto",
    threads: int = 1,
    device: int = 0,
) -> Model:
    """A model from the bytes of an ONNX file, its inputs and outputs checked, no samples run."""
    graph.check(data)
    providers = providers_for(execution_provider)
    options = _session_options(threads)
    if providers == [_CPU]:  # no plan of memory for each batch size: batches then need no padding
        options.enable_mem_pattern = False
    session = _session(data, options, providers, device)
    if execution_provider == "cuda" and _CUDA not in session.get_providers():
        raise NoProvider("cuda was asked for, but ONNX Runtime fell back to the CPU; " + _ADVICE)
    _check_signature(session, manifest)
    return Model(session, manifest)


def _session_options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors come as exceptions; the rest would go to stderr raw
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")  # never guessed
    return options


def _session(
    data: bytes, options: onnxruntime.SessionOptions, providers: list[str], device: int = 0
) -> onnxruntime.InferenceSession:
    try:
        return onnxruntime.InferenceSession(
            data, options, providers=[(name, _provider_options(name, device)) for name in providers]
        )
    except Exception as error:  # ONNX Runtime raises many types, its own and pybind's
        raise BadArtifact(
            f"{contract.MODEL_FILE}: ONNX Runtime cannot load it ({type(error).__name__}); "
            "re-export, or restore the file"
        ) from error


def providers_for(choice: Choice) -> list[str]:
    """ONNX Runtime's names for a choice. Raises NoProvider, ValueError for an unknown choice."""
    if choice not in get_args(Choice):
        raise ValueError(f"execution provider is {choice!r}, expected auto, cpu or cuda")
    if choice == "cpu":
        return [_CPU]
    offered = onnxruntime.get_available_providers()
    try:
        if _CUDA not in offered:
            raise NoProvider(f"this ONNX Runtime has only {', '.join(offered)}")
        gpus.count()
    except (NoProvider, gpus.NoGpu) as error:
        if choice == "cuda":
            raise NoProvider(f"cuda was asked for, but {error}; {_ADVICE}") from error
        return [_CPU]
    # The CUDA libraries come as wheels that the loader does not search by itself.
    onnxruntime.preload_dlls()
    return [_CUDA, _CPU]


_ADVICE = "install the gpu extra and a driver, or ask for auto or cpu"


def _provider_options(provider: str, device: int) -> dict[str, str]:
    if provider != _CUDA:
        return {}
    # EXHAUSTIVE (the default) searches anew for every batch size.
    return {
        "device_id": str(device),
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "0",
    }


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


def _try_out(data: bytes, manifest: Manifest, images: NDArray[np.uint8]) -> None:
    """Run the samples where neither time nor memory can run away, before trusting the graph.

    Nothing is optimised here: folding constants would do a graph's work while it is loaded, which
    no limit covers. What runs within the limits may then be optimised: that does no more work.
    """
    _bound_trials()
    options = _session_options(threads=1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    session = _session(data, options, [_CPU])
    _check_signature(session, manifest)
    run = onnxruntime.RunOptions()
    run.log_severity_level = 4
    run.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    over = threading.Event()

    def stop() -> None:
        over.set()
        run.terminate = True  # ONNX Runtime looks at it between two operators

    timer = threading.Timer(TRIAL_LIMIT_S, stop)
    timer.daemon = True
    timer.start()
    try:
        for first in range(0, len(images), TRIAL_ROWS):
            session.run(None, {INPUT: images[first : first + TRIAL_ROWS]}, run)
    except Exception as error:
        why = f"over {TRIAL_LIMIT_S:g} s" if over.is_set() else type(error).__name__
        raise _does_not_run(why) from error
    finally:
        timer.cancel()


@functools.cache
def _bound_trials() -> None:
    """Register the one bounded allocator of this process; only trials ask for it."""
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu",
            onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR,
            0,
            onnxruntime.OrtMemType.DEFAULT,
        ),
        # Extends by what is asked for, not by doubling.
        onnxruntime.OrtArenaCfg({"max_mem": TRIAL_LIMIT_BYTES, "arena_extend_strategy": 1}),
    )


def _does_not_run(why: str) -> BadArtifact:
    return BadArtifact(
        f"{contract.MODEL_FILE}: does not run on its golden samples ({why}); "
        "re-export, or restore the file"
    )


def _near(
    what: str,
    found: NDArray[np.float32],
    wanted: NDArray[np.float32],
    limit: float,
    unit: NDArray[np.float32] | float = 1.0,
) -> None:
    with np.errstate(all="ignore"):  # infinities are refused below, as is NaN
        away = float((np.abs(found - wanted) / unit).max())
    if not away <= limit:  # not >, so that a NaN is refused too
        raise BadArtifact(
            f"{contract.MODEL_FILE}: {what} of the golden samples differ by {away:.2g} from those "
            f"at export, at most {limit:g} is allowed; re-export, or restore the file"
        )
