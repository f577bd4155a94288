"""How many GPUs there are, as NVIDIA's driver tells it; a stand-in for the driver answers here."""

from __future__ import annotations

import pytest

from artifacts.gpus import NoGpu, count


class Driver:
    """What libcuda.so.1 offers, as far as it is asked."""

    def __init__(self, gpus: int = 0, status: int = 0) -> None:
        self.gpus = gpus
        self.status = status

    def cuInit(self, _flags: int) -> int:  # noqa: N802  # NVIDIA's name
        return self.status

    def cuDeviceGetCount(self, found: object) -> int:  # noqa: N802
        found._obj.value = self.gpus  # type: ignore[attr-defined]
        return 0

    def cuGetErrorName(self, _status: int, name: object) -> int:  # noqa: N802
        name._obj.value = b"CUDA_ERROR_NO_DEVICE"  # type: ignore[attr-defined]
        return 0


def test_the_driver_says_how_many_gpus_this_process_may_use() -> None:
    assert count(lambda _: Driver(gpus=3)) == 3


def test_without_a_driver_there_is_no_gpu() -> None:
    with pytest.raises(NoGpu, match="there is no NVIDIA driver"):
        count(_absent)


def test_a_driver_that_fails_is_named_with_its_error() -> None:
    with pytest.raises(NoGpu, match=r"CUDA_ERROR_NO_DEVICE \(100\)"):
        count(lambda _: Driver(status=100))


def test_where_every_gpu_is_hidden_there_is_none() -> None:
    with pytest.raises(NoGpu, match="shows no GPU"):
        count(lambda _: Driver(gpus=0))


def _absent(name: str) -> Driver:
    raise OSError(f"{name}: cannot open shared object file")
