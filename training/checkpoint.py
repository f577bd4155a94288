"""A run on disk between two epochs: written atomically, and continued exactly."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from training.files import put
from training.recipe import settings

if TYPE_CHECKING:
    from training.fit import Run

CHECKPOINT = "checkpoint.pt"
HISTORY = "history.jsonl"


class BadCheckpoint(Exception):
    """A checkpoint that cannot be continued: absent, damaged, or of another recipe."""


def save(run: Run, out: Path) -> None:
    """Replace the checkpoint and the history in `out`, each by one rename."""
    lines = "".join(json.dumps(epoch) + "\n" for epoch in run.history)
    put(out / HISTORY, lines.encode())
    record = {
        "recipe": json.dumps(settings(run.recipe)),
        "net": run.net.state_dict(),
        "average": run.average.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in run.optimizers],
        "steps": run.steps,
        "best": run.best,
        "history": run.history,
    }
    draft = out / f".{CHECKPOINT}"
    torch.save(record, draft)
    draft.replace(out / CHECKPOINT)


def restore(run: Run, out: Path) -> None:
    """Put `run`, new and of the same recipe, where the checkpoint in `out` left off.

    Raises BadCheckpoint.
    """
    record = read(out)
    if record["recipe"] != json.dumps(settings(run.recipe)):
        raise BadCheckpoint(
            f"{out / CHECKPOINT}: made by other settings of {run.recipe.name}; "
            "use the same ones, or start anew without --resume"
        )
    run.net.load_state_dict(record["net"])
    run.average.load_state_dict(record["average"])
    for optimizer, state in zip(run.optimizers, record["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    run.steps, run.best, run.history = record["steps"], record["best"], record["history"]


def read(out: Path) -> dict[str, Any]:
    """What `save` wrote. Raises BadCheckpoint."""
    path = out / CHECKPOINT
    try:
        record: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadCheckpoint(f"{path}: there is none; start without --resume") from error
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise BadCheckpoint(f"{path}: cannot be read; start without --resume") from error
    return record
