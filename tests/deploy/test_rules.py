"""The Prometheus rules, by promtool (Debian's package `prometheus`)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_and_its_rules_are_valid() -> None:
    assert "2 rule files found" in promtool(
        "check", "config", ROOT / "deploy/prometheus/prometheus.yml"
    )


@pytest.mark.parametrize("name", ["rules.yml", "rules_of_days.yml"])
def test_the_rules_and_alerts_do_what_they_say(name: str) -> None:
    promtool("test", "rules", Path(__file__).with_name(name))


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_ledger_totals_are_never_summed_over_instances(path: Path) -> None:
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            if "vitrine_feedback_total" in rule["expr"]:
                assert rule["expr"].startswith("max by")


def test_every_alert_says_how_bad_what_happened_and_what_to_do() -> None:
    (path,) = (path for path in RULES if path.name == "alerts.yml")
    for group in yaml.safe_load(path.read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket", "info")
            assert {"summary", "description", "runbook"} == rule["annotations"].keys()
