"""The environment, read once: every value checked, every mistake named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import BadSetting, Settings


def test_nothing_set_gives_the_defaults() -> None:
    assert Settings.from_env({"PATH": "/bin"}) == Settings()


def test_values_are_read_by_their_types() -> None:
    found = Settings.from_env(
        {
            "VITRINE_STATE": "/state",
            "VITRINE_DEADLINE_S": " 0.5 ",
            "VITRINE_WORKERS": "3",
            "VITRINE_MODELS": "a, b,,",
            "VITRINE_ACCESS_LOG": "1",
            "VITRINE_CORS_ORIGINS": "https://example.org,http://localhost:8080",
            "VITRINE_API_KEYS": "0123456789abcdef, fedcba9876543210",
        }
    )
    assert found.state == Path("/state")
    assert (found.deadline_s, found.workers, found.models) == (0.5, 3, ("a", "b"))
    assert found.access_log
    assert found.cors_origins == ("https://example.org", "http://localhost:8080")
    assert found.api_keys == ("0123456789abcdef", "fedcba9876543210")


def test_an_empty_state_is_none() -> None:
    assert Settings.from_env({"VITRINE_STATE": ""}).state is None


def test_what_kubernetes_injects_and_what_training_owns_is_ignored() -> None:
    names = ("VITRINE_PORT", "VITRINE_PORT_3000_TCP", "VITRINE_SERVICE_HOST", "VITRINE_DATA")
    assert Settings.from_env(dict.fromkeys(names, "tcp://10.0.0.1")) == Settings()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadSetting, match=r"VITRINE_DEADLINE is not a setting.*VITRINE_DEADLINE_S"):
        Settings.from_env({"VITRINE_DEADLINE": "1"})
    with pytest.raises(BadSetting, match="VITRINE_QQQQ is not a setting"):
        Settings.from_env({"VITRINE_QQQQ": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKERS", "0"),
        ("WORKERS", "two"),
        ("WORKERS", "2.5"),
        ("DEADLINE_S", "nan"),
        ("DEADLINE_S", "-1"),
        ("DEADLINE_S", ""),
        ("MAX_BODY_BYTES", "10"),
        ("MAX_QUEUE", "1"),
        ("EXECUTION_PROVIDER", "gpu"),
        ("CAPTURE", "1.1"),
        ("ACCESS_LOG", "yes"),
        ("LEDGER_URL", "mysql://host/x"),
        ("LEDGER_URL", "postgresql://host:port/x"),
        ("CORS_ORIGINS", "example.org"),
        ("CORS_ORIGINS", "https://example.org/"),
        ("CORS_ORIGINS", "https://exämple.org"),
    ],
)
def test_a_bad_value_is_refused_and_shown(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"VITRINE_{name} is .*expected") as refusal:
        Settings.from_env({f"VITRINE_{name}": value})
    if name != "LEDGER_URL":
        assert repr(value) in str(refusal.value)


@pytest.mark.parametrize("name", ["SECRET", "OLD_SECRETS", "API_KEYS", "ADMIN_KEYS"])
def test_a_secret_is_never_shown(name: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        Settings.from_env({f"VITRINE_{name}": "hunter2"})
    assert "hunter2" not in str(refusal.value)
    good = Settings.from_env({f"VITRINE_{name}": "correct-horse-battery"})
    assert "correct" not in repr(good)


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("VITRINE_DEADLNE_S", "1", "VITRINE_DEADLINE_S"),
        ("VITRINE_EXECUTION_PROVIDER", "cuda", "cuda was asked for"),
    ],
)
def test_bentoml_serve_refuses_in_one_line(variable: str, value: str, word: str) -> None:
    """On a machine with CUDA the second would start: see the tests of artifacts.model."""
    import onnxruntime

    if value == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return
    done = subprocess.run(
        [sys.executable, "-c", "import service.app"],
        env={**os.environ, variable: value},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("vitrine: ")
    assert word in line
