"""How many workers there are, and which GPU each of them uses.

The supervisor asks too, so nothing heavy is imported: ONNX Runtime is looked at, not loaded.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from artifacts import gpus
from service.settings import Settings


def count_gpus(settings: Settings) -> int:
    """The GPUs that workers are to use; 0 where everything runs on the CPU."""
    if settings.execution_provider == "cpu" or not offers_cuda():
        return 0
    try:
        return gpus.count()
    except gpus.NoGpu:
        return 0


def count_workers(settings: Settings, found_gpus: int) -> int:
    """As many as the settings say, else one for each GPU, else one for each core."""
    return settings.workers or found_gpus or len(os.sched_getaffinity(0))


def device_of(worker: int | None, found_gpus: int) -> int:
    """The GPU of a worker, from 0; BentoML counts workers from 1, and has no number for a lone one.

    A worker that replaces a killed one may have another number, but always a small one.
    """
    return (worker - 1) % found_gpus if worker and found_gpus else 0


def why_not_cuda(settings: Settings, used: Iterable[str]) -> str:
    """Why models run on the CPU where CUDA is installed and was not ruled out; else "".

    `used` are the providers of the loaded models.
    """
    if settings.execution_provider == "cpu" or "cpu" not in used or not offers_cuda():
        return ""
    try:
        gpus.count()
    except gpus.NoGpu as error:
        return str(error)
    return "CUDA's or cuDNN's libraries do not load; install the gpu extra whole"


def offers_cuda() -> bool:
    """Whether the ONNX Runtime that is installed was built for CUDA."""
    found = importlib.util.find_spec("onnxruntime")
    if found is None or found.origin is None:
        return False
    return Path(found.origin).with_name("capi").joinpath(_CUDA_LIBRARY).exists()


_CUDA_LIBRARY = "libonnxruntime_providers_cuda.so"
