"""What is answered in the Open Inference Protocol: one model's outputs, as JSON and as bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from artifacts.manifest import Manifest
from service import wire


class Wanted(NamedTuple):
    """One output that was asked for; `classes` is the classification extension's count, or 0."""

    name: str
    binary: bool
    classes: int = 0


class Answers(NamedTuple):
    """What came of N images, a column for each output; `receipts` makes the last when wanted.

    Where the request's `head` is known beforehand, only the numbers are looked at.
    """

    probabilities: NDArray[np.float32]  # float32[N, K]
    energy: NDArray[np.float32] | None  # float32[N]
    indices: Sequence[int]
    decisions: Sequence[str]
    receipts: Callable[[], list[str]]


class Writer:
    """One version's outputs, as the protocol names them."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._labels = manifest.classes
        # name -> datatype, shape after the batch. All are listed, so all come where none is named.
        self.outputs: dict[str, tuple[str, tuple[int, ...]]] = {}
        self.outputs["probabilities"] = ("FP32", (len(manifest.classes),))
        if "energy" in manifest.outputs:
            self.outputs["energy"] = ("FP32", ())
        self.outputs |= dict.fromkeys(("label", "decision", "receipt"), ("BYTES", ()))
        self.everything = {
            binary: tuple(Wanted(name, binary) for name in self.outputs) for binary in (True, False)
        }

    def head(self, request_id: str | None, outputs: tuple[Wanted, ...], rows: int) -> bytes | None:
        """The answer's JSON, where the request alone decides it: nothing but numbers, as bytes."""
        if any(w.classes or not w.binary or self.outputs[w.name][0] != "FP32" for w in outputs):
            return None
        return self._head(request_id, [self._fixed(w.name, rows) for w in outputs])

    def write(
        self,
        request_id: str | None,
        head: bytes | None,
        outputs: tuple[Wanted, ...],
        answers: Answers,
    ) -> tuple[bytes, int | None]:
        """The answer's body, and how long its JSON part is; None where all of it is JSON.

        `head` is what the method of that name said of the request.
        """
        if head is not None:
            columns = [head]
            for wanted in outputs:
                column = answers.energy if wanted.name == "energy" else answers.probabilities
                assert column is not None
                columns.append(column.tobytes())
            return b"".join(columns), len(head)
        records, tails = [], [b""]
        for wanted in outputs:
            record, tail = self._output(wanted, answers)
            records.append(record)
            if tail is not None:
                tails.append(tail)
        tails[0] = head = self._head(request_id, records)
        return b"".join(tails), len(head) if len(tails) > 1 else None

    def _fixed(self, name: str, rows: int) -> dict[str, Any]:
        """The record of a binary output of numbers: its size follows from its shape."""
        _, shape = self.outputs[name]
        return wire.binary_output(name, "FP32", (rows, *shape), 4 * rows * math.prod(shape))

    def _output(self, wanted: Wanted, answers: Answers) -> tuple[dict[str, Any], bytes | None]:
        """One output's record, and its binary data if it was wanted so."""
        name = wanted.name
        rows = len(answers.probabilities)
        if wanted.classes:
            texts = self._classified(answers.probabilities, wanted.classes)
            return wire.string_output(name, (rows, wanted.classes), texts, binary=wanted.binary)
        if name in ("probabilities", "energy"):
            column = answers.probabilities if name == "probabilities" else answers.energy
            assert column is not None
            if wanted.binary:
                return self._fixed(name, rows), column.tobytes()
            return wire.json_output(name, "FP32", column.shape, column.ravel()), None
        if name == "label":
            texts = [self._labels[index] for index in answers.indices]
        elif name == "decision":
            texts = list(answers.decisions)
        else:
            texts = answers.receipts()
        return wire.string_output(name, (rows,), texts, binary=wanted.binary)

    def _classified(self, probabilities: NDArray[np.float32], count: int) -> list[str]:
        """For each row its `count` likeliest classes as value:index:label, likeliest first."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :count]
        values = np.take_along_axis(probabilities, order, axis=1)
        return [
            f"{value:.6f}:{index}:{self._labels[index]}"
            for value, index in zip(values.ravel().tolist(), order.ravel().tolist(), strict=True)
        ]

    def _head(self, request_id: str | None, outputs: list[dict[str, Any]]) -> bytes:
        record: dict[str, Any] = {
            "model_name": self._manifest.name,
            "model_version": self._manifest.version,
        }
        if request_id is not None:
            record["id"] = request_id
        record["outputs"] = outputs
        return orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY)
