"""The GPUs this process may use, asked of NVIDIA's driver alone: no CUDA libraries, no runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

DRIVER = "libcuda.so.1"


class NoGpu(Exception):
    """There is no GPU that could be used; the message says why."""


def count(load: Callable[[str], Any] = ctypes.CDLL) -> int:
    """How many GPUs CUDA_VISIBLE_DEVICES leaves this process, at least 1. Raises NoGpu."""
    try:
        driver = load(DRIVER)
    except OSError:
        raise NoGpu(f"there is no NVIDIA driver ({DRIVER} is not found)") from None
    found = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(found))
    if status:
        name = ctypes.c_char_p()
        driver.cuGetErrorName(status, ctypes.byref(name))
        raise NoGpu(f"the NVIDIA driver answers {(name.value or b'error').decode()} ({status})")
    if not found.value:
        raise NoGpu("the NVIDIA driver shows no GPU to this process")
    return found.value
