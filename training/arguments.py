"""What the verbs of `vitrine-train` have in common: arguments, and what they mean."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from artifacts.manifest import Manifest
from artifacts.store import Store

# Makes a verb of: its name, what it calls, what it is about, an example without the command.
AddVerb = Callable[[str, Callable[[argparse.Namespace], int], str, str], Any]


def with_data(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--data", type=Path, help="folder of the data sets (or VITRINE_DATA)")


def with_state(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--state", type=Path, help="state folder (or VITRINE_STATE; .vitrine)")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no whole number from 1")
    return number


def store_for(arguments: argparse.Namespace) -> Store:
    state = arguments.state or Path(os.environ.get("VITRINE_STATE") or ".vitrine")
    return Store(state)


def chosen(store: Store, name: str) -> tuple[str, str]:
    """The model and version that MODEL or MODEL@VERSION means. Raises NotFound."""
    model, _, version = name.partition("@")
    return (model, version) if version else store.resolve(model)


def summary(manifest: Manifest) -> str:
    low, high = manifest.test["interval"]
    return (
        f"{manifest.name} {manifest.version}: {manifest.test['accuracy']:.2%} of "
        f"{manifest.test['count']:,} test images ({low:.2%} to {high:.2%}), "
        f"{manifest.parameters:,} parameters, {manifest.macs / 1e6:.2f} MMAC"
    )
