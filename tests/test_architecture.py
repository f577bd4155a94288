"""The arrows between the rooms: training -> artifacts <- service, and no other."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service import VERSION

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "sklearn", "skl2onnx", "onnx", "onnxscript", "matplotlib", "optuna"}


def modules(room: str) -> list[str]:
    """Every module of a room, by its name."""
    found = []
    for path in sorted((ROOT / room).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return [name for name in found if not name.endswith("__main__")]


def loaded_by(*names: str, strict: bool = False) -> set[str]:
    """The modules that a fresh interpreter holds after importing `names`.

    `strict` leaves out everything that is installed: only the standard library and this project.
    """
    program = (
        f"import importlib, json, sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    flags = ["-I", "-S"] if strict else ["-I"]
    answer = subprocess.run(
        [sys.executable, *flags, "-c", program], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    found: list[str] = json.loads(answer.stdout.splitlines()[-1])
    return set(found)


def rooms(names: set[str]) -> set[str]:
    """The top-level packages among modules."""
    return {name.partition(".")[0] for name in names}


def test_the_manifest_needs_the_standard_library_only() -> None:
    loaded_by("artifacts.manifest", "artifacts.catalog", "artifacts.graph", strict=True)


def test_artifacts_know_neither_of_the_other_rooms() -> None:
    found = rooms(loaded_by(*modules("artifacts")))
    assert not found & {"service", "training", "bentoml", "starlette", *HEAVY}


def test_the_service_needs_neither_training_nor_torch() -> None:
    """Every module of it; what an extra brings is imported by the function that needs it."""
    found = rooms(loaded_by(*modules("service")))
    assert not found & {"training", "ray", *HEAVY}


def test_training_needs_neither_the_service_nor_bentoml() -> None:
    found = rooms(loaded_by(*modules("training")))
    assert not found & {"service", "bentoml", "starlette", "prometheus_client"}


def test_only_one_module_of_the_service_knows_bentoml() -> None:
    others = [name for name in modules("service") if name != "service.app"]
    assert "bentoml" not in rooms(loaded_by(*others))


def test_the_supervisor_stays_light() -> None:
    """It imports service.app too, and never predicts; BentoML itself brings NumPy, or not."""
    bento = loaded_by("bentoml")
    assert not (loaded_by("service.app") - bento) & {"onnxruntime", "PIL", "sqlalchemy"}


@pytest.mark.parametrize("command", ["service.cli", "training.__main__"])
def test_a_command_answers_for_help_without_torch(command: str) -> None:
    found = rooms(loaded_by(command))
    assert not found & {"torch", "bentoml", "sklearn"}


def test_the_release_has_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert f"ARG VERSION={VERSION}" in (ROOT / "Dockerfile").read_text()


def test_every_module_says_its_job_in_its_first_line() -> None:
    for room in ("artifacts", "service", "training"):
        for path in (ROOT / room).rglob("*.py"):
            first = path.read_text().partition("\n")[0]
            assert first.startswith('"""'), f"{path.relative_to(ROOT)} opens without a sentence"
            assert len(first) > 10, f"{path.relative_to(ROOT)} opens without a sentence"
