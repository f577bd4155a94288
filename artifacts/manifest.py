"""What a version folder holds and promises: read, check, write. Standard library only."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

SCHEMA = 1
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
SAMPLES_FILE = "samples.npz"
FILES = (MODEL_FILE, SAMPLES_FILE)  # what the manifest vouches for by hash

Mode = Literal["L", "RGB"]
Canonicaliser = Literal["digit", "garment", "photo"]

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
VERSION = re.compile(r"[0-9a-f]{12}")
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_SIDE = 1024  # pixels; the largest input a model here may ask for
MAX_CLASSES = 1000

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


class BadArtifact(Exception):
    """A version folder, catalog or model that does not keep the contract; says what and where."""


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
    path = folder / MANIFEST_FILE
    try:
        with path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise BadArtifact(f"{MANIFEST_FILE}: missing; restore the file or re-export") from error
    except OSError as error:
        raise BadArtifact(f"{MANIFEST_FILE}: cannot be read ({error.strerror})") from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BadArtifact(f"{MANIFEST_FILE}: over {MAX_MANIFEST_BYTES} bytes; not a manifest")
    try:
        record = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadArtifact(f"{MANIFEST_FILE}: not JSON; restore the file or re-export") from error
    return from_record(record)


def seal(manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    """The manifest with its version and the hash of each file filled in."""
    hashes = {name: hashlib.sha256(files[name]).hexdigest() for name in FILES}
    return replace(manifest, version=version_of(files[MODEL_FILE], manifest), files=hashes)


def check_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """The bytes of every file the manifest vouches for; raises BadArtifact where one differs."""
    contents = {}
    for name in FILES:
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError as error:
            raise BadArtifact(f"{name}: missing; restore the file or re-export") from error
        except OSError as error:
            raise BadArtifact(f"{name}: cannot be read ({error.strerror})") from error
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


def from_record(record: object) -> Manifest:
    """A manifest from parsed JSON. Raises BadArtifact naming the field that is wrong."""
    if not isinstance(record, dict):
        raise _wrong("the file", record, "a JSON object")
    schema = record.get("schema")
    if schema != SCHEMA:
        raise BadArtifact(
            f"{MANIFEST_FILE}: schema is {schema!r}, this release reads {SCHEMA}; "
            "upgrade or re-export"
        )
    fields = {name: _get(record, name, kind) for name, kind in _KINDS.items()}
    labels = _labels(fields["labels"])
    outputs = tuple(fields["outputs"])
    if outputs not in OUTPUTS:
        raise _wrong("outputs", fields["outputs"], " or ".join(str(list(o)) for o in OUTPUTS))
    alien = record.get("alien")
    if (alien is None) != ("energy" not in outputs):
        raise _wrong("alien", alien, "a threshold exactly when the model has an energy output")
    for name, pattern in (("name", NAME), ("task", NAME), ("version", VERSION)):
        if not pattern.fullmatch(fields[name]):
            raise _wrong(name, fields[name], f"a match of {pattern.pattern}")
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


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number JSON has")


def _wrong(name: str, found: object, expected: str) -> BadArtifact:
    shown = repr(found)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return BadArtifact(f"{MANIFEST_FILE}: {name} is {shown}, expected {expected}; re-export")


def _get(record: dict[str, Any], name: str, kind: type) -> Any:
    value = record.get(name)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not fits:
        raise _wrong(name, value, f"a JSON {_JSON[kind]}")
    return value


_JSON = {str: "string", dict: "object", list: "array", int: "integer", float: "number"}


def _labels(record: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    labels = {
        language: tuple(_get(record, language, list))
        for language in {"en", *(key for key in record if isinstance(key, str))}
    }
    count = len(labels["en"])
    for language, names in labels.items():
        good = all(isinstance(name, str) and name for name in names)
        if not (good and len(names) == len(set(names)) == count and 2 <= count <= MAX_CLASSES):
            raise _wrong(f"labels.{language}", list(names), "2 or more different names, as in en")
    return dict(sorted(labels.items()))


def _input(record: dict[str, Any]) -> Input:
    height, width = _get(record, "height", int), _get(record, "width", int)
    for name, side in (("input.height", height), ("input.width", width)):
        if not 1 <= side <= MAX_SIDE:
            raise _wrong(name, side, f"1 to {MAX_SIDE} pixels")
    mode, canonicaliser = record.get("mode"), record.get("canonicaliser")
    if mode not in get_args(Mode):
        raise _wrong("input.mode", mode, "L or RGB")
    if canonicaliser not in get_args(Canonicaliser):
        raise _wrong("input.canonicaliser", canonicaliser, "digit, garment or photo")
    return Input(
        height=height,
        width=width,
        mode=cast(Mode, mode),
        canonicaliser=cast(Canonicaliser, canonicaliser),
    )


def _threshold(name: str, record: object) -> Threshold:
    if not isinstance(record, dict):
        raise _wrong(name, record, "an object with value and rate")
    return Threshold(value=_get(record, "value", float), rate=_get(record, "rate", float))
