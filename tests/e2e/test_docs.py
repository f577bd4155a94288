"""The documentation is true: its client runs, its table names every setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from service.settings import Settings
from tests.serving import ROOT, serving

SAMPLES = ROOT / "tests" / "data" / "mnist"


def test_the_client_of_the_api_page_reads_a_digit(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    (client,) = [
        block
        for block in re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if "def classify" in block
    ]
    script = tmp_path / "client.py"
    script.write_text(client)
    with serving(tmp_path, workers=1) as server:
        answer = subprocess.run(
            [sys.executable, script, SAMPLES / "sample_7_7.png", server.url],
            capture_output=True,
            text=True,
            check=True,
        )
    assert answer.stdout.startswith("7 ")


def test_the_operations_page_lists_every_setting() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    listed = set(re.findall(r"`(VITRINE_[A-Z_]+)`", text))
    assert Settings.variables() <= listed
