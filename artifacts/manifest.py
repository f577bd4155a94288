"""What a version folder holds and promises: read, check, write. Standard library only."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from artifacts.record import (
    FILE,
    check_created,
    check_quantiles,
    check_references,
    check_test,
    get,
    read_labels,
    share,
    shown,
    wrong,
)
from artifacts.record import BadArtifact as BadArtifact

SCHEMA = 1
MANIFEST_FILE = FILE
MODEL_FILE = "model.onnx"
SAMPLES_FILE = "samples.npz"
FILES = (MODEL_FILE, SAMPLES_FILE)  # what the manifest vouches for by hash

Mode = Literal["L", "RGB"]
Canonicaliser = Literal["digit", "garment", "photo"]

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
VERSION = re.compile(r"[0-9a-f]{12}")
MAX_BYTES = {MODEL_FILE: 512 * 1024**2, SAMPLES_FILE: 64 * 1024**2, MANIFEST_FILE: 4 * 1024**2}
MAX_SIDE = 1024  # pixels; the largest input a model here may ask for

OUTPUTS = (("probabilities", "energy"), ("probabilities",))
# What decides a model's behaviour, beside the bytes of model.onnx. The rest are facts about it.
BEHAVIOURAL = (
    "task",
    "labels",
    "input",
    "outputs",
    "uncertain",
    "alien",
    "quantiles",
    "references",
)


@dataclass(frozen=True, kw_only=True)
class Input:
    """The pixels a model wants: uint8[N, height, width] ("L") or uint8[N, height, width, 3]."""

    height: int
    width: int
    mode: Mode
    canonicaliser: Canonicaliser

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image: (H, W) or (H, W, 3)."""
        size = (self.height, self.width)
        return size if self.mode == "L" else (*size, 3)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A limit on probability or energy, and the share of validation images that lay beyond it."""

    value: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of one model: how it behaves, how good it is, where it came from.

    `quantiles` maps a coverage level ("0.95") to the conformal quantile of 1 - p(true class);
    `references` holds the validation distributions that drift is measured against. `test` and
    `provenance` are records for people and metrics. `version` and `files` are set by publishing.
    """

    name: str
    task: str
    labels: dict[str, tuple[str, ...]]  # language ("en", "pt") -> one name for each class
    input: Input
    outputs: tuple[str, ...]
    uncertain: Threshold  # largest probability below this: `uncertain`
    alien: Threshold | None  # energy above this: `alien`; None for models without energy
    quantiles: dict[str, float] = field(default_factory=dict)
    references: dict[str, Any] = field(default_factory=dict)
    created: str  # ISO 8601, UTC
    parameters: int
    macs: int  # multiply-accumulates for one image
    test: dict[str, Any]
    provenance: dict[str, Any]
    notes: str = ""
    schema: int = SCHEMA
    version: str = ""
    files: dict[str, str] = field(default_factory=dict)  # file name -> SHA-256

    @property
    def classes(self) -> tuple[str, ...]:
        """The English label of each class, in the order of the model's outputs."""
        return self.labels["en"]

    def behaviour(self) -> bytes:
        """Canonical JSON of everything, beside the model's bytes, that decides an answer."""
        record = asdict(self)
        return json.dumps(
            {key: record[key] for key in BEHAVIOURAL}, sort_keys=True, separators=(",", ":")
        ).encode()

    def to_json(self) -> str:
        """The text of manifest.json."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def static_facts(self) -> dict[str, str]:
        """What also goes into the ONNX `metadata_props`: known before anything is measured."""
        return {
            "name": self.name,
            "task": self.task,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "input": json.dumps(asdict(self.input)),
            "recipe": str(self.provenance.get("recipe", "")),
        }


def version_of(model: bytes, manifest: Manifest) -> str:
    """The 12 hex digits that name a version: SHA-256 over the model and its behaviour."""
    digest = hashlib.sha256(hashlib.sha256(model).digest())
    digest.update(manifest.behaviour())
    return digest.hexdigest()[:12]


def read(folder: Path) -> Manifest:
    """The manifest of a version folder, its fields checked; the files it names are not opened."""
    text = _contents(folder, MANIFEST_FILE)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArtifact(f"{MANIFEST_FILE}: not JSON; restore the file or re-export") from error
    return from_record(record)


def seal(manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    """The manifest as it will be read back, with its version and the hash of each file filled in.

    Raises BadArtifact when it would not be.
    """
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in FILES}
    draft = replace(manifest, version="0" * 12, files=hashes)
    try:
        text = draft.to_json()
    except (TypeError, ValueError) as error:
        raise BadArtifact(f"{MANIFEST_FILE}: cannot be written as JSON: {error}") from error
    # Through JSON and back before hashing: a whole number where a float belongs, or a tuple for a
    # list, would otherwise give a version that does not compute when the file is read.
    whole = from_record(json.loads(text))
    return replace(whole, version=version_of(files[MODEL_FILE], whole))


def check_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The bytes of every file the manifest vouches for; raises BadArtifact where one differs."""
    contents = {}
    for name in FILES:
        contents[name] = _contents(folder, name)
        found, wanted = hashlib.sha256(contents[name]).hexdigest(), manifest.files.get(name, "")
        if found != wanted:
            raise BadArtifact(
                f"{name}: sha256 is {found[:12]}, the manifest says {wanted[:12] or 'nothing'}; "
                "restore the file or re-export"
            )
    found = version_of(contents[MODEL_FILE], manifest)
    if not manifest.version == found == folder.name:
        raise BadArtifact(
            f"{MANIFEST_FILE}: the version computes to {found}, the manifest says "
            f"{manifest.version or 'nothing'} and the folder {folder.name}; re-export"
        )
    return contents


def _contents(folder: Path, name: str) -> bytes:
    """The bytes of a file of a version folder, which must be a plain file of a sane size."""
    limit = MAX_BYTES[name]
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        with os.fdopen(os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise BadArtifact(f"{name}: no plain file; restore the file or re-export")
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise BadArtifact(f"{name}: missing; restore the file or re-export") from error
    except OSError as error:
        raise BadArtifact(f"{name}: cannot be read ({error.strerror})") from error
    if len(data) > limit:
        raise BadArtifact(f"{name}: over {limit} bytes, the most such a file may have; re-export")
    return data


def from_record(record: object) -> Manifest:
    """A manifest from parsed JSON. Raises BadArtifact naming the field that is wrong."""
    if not isinstance(record, dict):
        raise wrong("the file", record, "a JSON object")
    schema = record.get("schema")
    if schema != SCHEMA:
        raise BadArtifact(
            f"{MANIFEST_FILE}: schema is {shown(schema)}, this release reads {SCHEMA}; "
            "upgrade or re-export"
        )
    try:  # NaN, numbers beyond a float's range, and text that cannot be sent to anybody
        json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadArtifact(f"{MANIFEST_FILE}: holds what JSON cannot; re-export") from error
    fields = {name: get(record, name, kind) for name, kind in _KINDS.items()}
    labels = read_labels(fields["labels"])
    classes = len(labels["en"])
    outputs = tuple(fields["outputs"])
    if outputs not in OUTPUTS:
        raise wrong("outputs", fields["outputs"], " or ".join(str(list(o)) for o in OUTPUTS))
    alien = record.get("alien")
    if (alien is None) != ("energy" not in outputs):
        raise wrong("alien", alien, "a threshold exactly when the model has an energy output")
    for name, pattern in (("name", NAME), ("task", NAME), ("version", VERSION)):
        if not pattern.fullmatch(fields[name]):
            raise wrong(name, fields[name], f"a match of {pattern.pattern}")
    for name in ("parameters", "macs"):
        if fields[name] < 0:
            raise wrong(name, fields[name], "0 or more")
    check_created(fields["created"])
    check_quantiles(fields["quantiles"])
    check_references(fields["references"], classes)
    check_test(fields["test"], classes)
    for name in fields["files"]:
        get(fields["files"], name, str, "files.")
    return Manifest(
        **{
            **fields,
            "labels": labels,
            "outputs": outputs,
            "input": _input(fields["input"]),
            "uncertain": _threshold("uncertain", fields["uncertain"]),
            "alien": None if alien is None else _threshold("alien", alien),
        }
    )


# Every field but `alien`, which may be null, with the JSON type it must have.
_KINDS: dict[str, type] = {
    "name": str,
    "task": str,
    "labels": dict,
    "input": dict,
    "outputs": list,
    "uncertain": dict,
    "quantiles": dict,
    "references": dict,
    "created": str,
    "parameters": int,
    "macs": int,
    "test": dict,
    "provenance": dict,
    "notes": str,
    "schema": int,
    "version": str,
    "files": dict,
}


def _input(record: dict[str, Any]) -> Input:
    height, width = (get(record, name, int, "input.") for name in ("height", "width"))
    for name, side in (("input.height", height), ("input.width", width)):
        if not 1 <= side <= MAX_SIDE:
            raise wrong(name, side, f"1 to {MAX_SIDE} pixels")
    mode, canonicaliser = record.get("mode"), record.get("canonicaliser")
    if mode not in get_args(Mode):
        raise wrong("input.mode", mode, "L or RGB")
    if canonicaliser not in get_args(Canonicaliser):
        raise wrong("input.canonicaliser", canonicaliser, "digit, garment or photo")
    return Input(
        height=height,
        width=width,
        mode=cast(Mode, mode),
        canonicaliser=cast(Canonicaliser, canonicaliser),
    )


def _threshold(name: str, record: object) -> Threshold:
    if not isinstance(record, dict):
        raise wrong(name, record, "an object with value and rate")
    inside = f"{name}."
    return Threshold(value=get(record, "value", float, inside), rate=share(record, "rate", inside))
