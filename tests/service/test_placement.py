"""How many workers there are, which GPU each one uses, and what is said where none is used."""

from __future__ import annotations

import os

import pytest

from artifacts import gpus
from service import placement
from service.live import batch_sizes
from service.placement import count_gpus, count_workers, device_of, why_not_cuda
from service.settings import Settings


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An ONNX Runtime for CUDA, on a machine with two GPUs."""
    monkeypatch.setattr(placement, "offers_cuda", lambda: True)
    monkeypatch.setattr(gpus, "count", lambda: 2)
    return monkeypatch


def without_a_driver() -> int:
    raise gpus.NoGpu("there is no NVIDIA driver")


@pytest.mark.usefixtures("cuda")
def test_with_cuda_there_is_one_worker_for_each_gpu_unless_somebody_says_otherwise() -> None:
    assert count_gpus(Settings()) == 2
    assert count_workers(Settings(), 2) == 2
    assert count_workers(Settings(workers=5), 2) == 5


def test_on_the_cpu_there_is_one_worker_for_each_core(cuda: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    assert count_gpus(Settings(execution_provider="cpu")) == 0
    assert count_workers(Settings(), 0) == cores
    cuda.setattr(gpus, "count", without_a_driver)
    assert count_gpus(Settings()) == 0


def test_workers_take_the_gpus_in_turn() -> None:
    assert [device_of(worker, 2) for worker in (1, 2, 3, 4)] == [0, 1, 0, 1]
    assert [device_of(worker, 0) for worker in (None, 1, 2)] == [0, 0, 0]
    assert device_of(None, 4) == 0


def test_why_cuda_is_not_used_is_told_where_it_was_meant_to_be(cuda: pytest.MonkeyPatch) -> None:
    assert why_not_cuda(Settings(), ["cuda"]) == ""
    assert "libraries do not load" in why_not_cuda(Settings(), ["cpu"])
    cuda.setattr(gpus, "count", without_a_driver)
    assert why_not_cuda(Settings(), ["cpu"]) == "there is no NVIDIA driver"
    assert why_not_cuda(Settings(execution_provider="cpu"), ["cpu"]) == ""
    cuda.setattr(placement, "offers_cuda", lambda: False)
    assert why_not_cuda(Settings(), ["cpu"]) == ""


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (32, [1, 2, 4, 8, 16, 32]), (48, [1, 2, 4, 8, 16, 32, 48])],
)
def test_every_batch_fits_a_size_that_was_warmed(largest: int, sizes: list[int]) -> None:
    assert batch_sizes(largest) == sizes
