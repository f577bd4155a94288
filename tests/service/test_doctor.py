"""The doctor finds what is wrong, and says what to do about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from artifacts import gpus
from artifacts.store import Store
from service import placement
from service.doctor import examine
from service.settings import Settings
from tests import toy


def test_with_the_released_models_all_is_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(Settings(state=tmp_path)) == 0
    said = capsys.readouterr().out
    for wanted in ("onnxruntime ", "really used: cpu", "mnist-cnn", "task digits", "all is well"):
        assert wanted in said
    assert "WRONG" not in said


def test_a_damaged_version_is_named_with_the_way_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    published = toy.publish(store)
    store.activate("toy", published.version)
    model = store.folder("toy", published.version) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    assert examine(Settings(state=tmp_path)) == 1
    said = capsys.readouterr().out
    assert f"WRONG  toy {published.version}: model.onnx: sha256 is" in said
    assert "vitrine models rollback toy" in said


def test_cuda_that_cannot_be_had_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(Settings(state=tmp_path), execution_provider="cuda")
    if "really used: cuda" in _said(settings, capsys):
        return  # this machine has it
    assert examine(settings) == 1
    assert "cuda was asked for" in capsys.readouterr().out


def test_cuda_that_is_installed_but_not_used_is_wrong_unless_the_cpu_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "offers_cuda", lambda: True)
    monkeypatch.setattr(gpus, "count", no_gpu)
    settings = Settings(state=tmp_path)
    assert examine(settings) == 1
    said = capsys.readouterr().out
    assert "WRONG  this ONNX Runtime was built for CUDA, but there is no driver" in said
    assert "VITRINE_EXECUTION_PROVIDER=cpu" in said
    assert examine(replace(settings, execution_provider="cpu")) == 0


def no_gpu() -> int:
    raise gpus.NoGpu("there is no driver")


def test_without_a_state_folder_it_says_what_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(Settings(state=None)) == 0
    assert "nothing can be published" in capsys.readouterr().out


def _said(settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    examine(settings)
    return capsys.readouterr().out
