"""What BentoML makes of the service, in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json
from service.app import Vitrine
bento = Vitrine.to_asgi()._bento
print(json.dumps([part.cls.__name__ for part in bento.user_middleware]))
"""


def test_no_typed_request_is_kept_by_bentomls_timer(tmp_path: Path) -> None:
    environ = {**os.environ, "VITRINE_STATE": "", "BENTOML_HOME": str(tmp_path)}
    environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    parts = json.loads(answer.stdout.splitlines()[-1])
    assert "ContextMiddleware" in parts  # so the names are the ones we know
    assert "TimeoutMiddleware" not in parts
