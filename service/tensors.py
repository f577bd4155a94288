"""What a model's requests are in the Open Inference Protocol: read, checked, and described. No I/O.

The protocol: https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol,
with Triton's binary tensor and classification extensions.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from artifacts.classify import Preprocess
from artifacts.manifest import Manifest
from service import wire
from service.answers import Wanted, Writer
from service.records import BadRecord, parse_json
from service.wire import INPUT, Malformed

# What a client repeats word for word is parsed once: its JSON header, without data, is small.
CACHED_BYTES = 1024
CACHED_HEADERS = 256
MAX_ID = 256


@dataclass(frozen=True, slots=True)
class Inference:
    """One infer request, checked against the model's signature; all of it but the binary data."""

    id: str | None
    encoded: bool  # datatype BYTES: whole PNG, JPEG, ... files; else UINT8: pixels
    shape: tuple[int, ...]
    size: int | None  # bytes of binary data that follow the JSON; None: `data` has the elements
    data: Any
    outputs: tuple[Wanted, ...]
    timeout_s: float
    preprocess: Preprocess
    head: bytes | None  # the answer's JSON, where the request alone decides it

    @property
    def rows(self) -> int:
        """How many images."""
        return self.shape[0]


class Signature:
    """One version's inputs and outputs, as the protocol names them.

    `max_rows` bounds the pixels' batch, `max_images` that of encoded images.
    """

    def __init__(self, manifest: Manifest, *, max_rows: int, max_images: int) -> None:
        self.manifest = manifest
        self._shape = manifest.input.shape
        self._row_bytes = math.prod(self._shape)
        self._max_rows = max_rows
        self._max_images = max_images
        self._most_values = max(max_rows * self._row_bytes, max_images)
        self.writer = Writer(manifest)
        self.outputs = self.writer.outputs
        self._seen: dict[bytes, Inference] = {}

    def read(self, header: bytes, *, tail: int | None) -> Inference:
        """The request whose JSON is `header`; `tail` bytes of data follow it (None: nothing may).

        Raises Malformed.
        """
        asked = self._seen.get(header)
        if asked is None:
            asked = self._read(header)
            if asked.size is not None and len(header) <= CACHED_BYTES:
                if len(self._seen) >= CACHED_HEADERS:
                    self._seen.clear()
                self._seen[header] = asked
        if asked.size != tail and (asked.size or tail or tail is None):
            wire.refuse_tail(asked.size, tail)
        return asked

    def read_raw(self, size: int) -> Inference:
        """The request that is nothing but `size` bytes of pixels. Raises Malformed."""
        rows, rest = divmod(size, self._row_bytes)
        if rest or not rows:
            raise Malformed(
                f"the body is {size} bytes, expected a multiple of {self._row_bytes}: "
                f"uint8[N, {', '.join(map(str, self._shape))}]"
            )
        self._check_rows(rows, self._max_rows)
        shape = (rows, *self._shape)
        outputs = self.writer.everything[True]
        return Inference(None, False, shape, size, None, outputs, math.inf, "auto", None)

    def pixels(self, asked: Inference, body: bytes, start: int) -> NDArray[np.uint8]:
        """uint8[N, H, W] or uint8[N, H, W, 3]; binary data is not copied. Raises Malformed."""
        if asked.size is not None:
            return np.frombuffer(body, np.uint8, asked.size, start).reshape(asked.shape)
        flat = wire.flattened(asked.data, asked.shape)
        # JSON's true and false are 1 and 0 to bytes(); looking for the words costs nothing.
        if (b"true" in body or b"false" in body) and any(type(value) is bool for value in flat):
            raise Malformed(f"{INPUT}: data has a boolean, expected whole numbers from 0 to 255")
        try:
            data = bytes(flat)
        except (TypeError, ValueError):
            raise Malformed(f"{INPUT}: data are not all whole numbers from 0 to 255") from None
        return np.frombuffer(data, np.uint8).reshape(asked.shape)

    def images(self, asked: Inference, body: bytes, start: int) -> list[bytes]:
        """The encoded images: length-prefixed after the JSON, or base64 in it. Raises Malformed."""
        if asked.size is not None:
            return wire.elements(body, start, asked.rows)
        texts = wire.flattened(asked.data, asked.shape)
        try:
            return [base64.b64decode(text, validate=True) for text in texts]
        except (binascii.Error, TypeError, ValueError):
            raise Malformed(f"{INPUT}: an element of data is not a string of base64") from None

    def metadata(self) -> dict[str, Any]:
        """The protocol's model metadata."""
        return {
            "name": self.manifest.name,
            "versions": [self.manifest.version],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, *self._shape]}],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1, *shape]}
                for name, (datatype, shape) in self.outputs.items()
            ],
        }

    def config(self, max_batch: int) -> dict[str, Any]:
        """The model configuration extension's answer, as far as it means something here."""
        name = self.manifest.name
        return {
            "name": name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "version_policy": {"specific": {"versions": [self.manifest.version]}},
            "max_batch_size": self._max_rows,
            "input": [{"name": INPUT, "data_type": "TYPE_UINT8", "dims": list(self._shape)}],
            "output": [
                {
                    "name": name,
                    "data_type": "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}",
                    "dims": list(shape) or [1],
                    **({} if shape else {"reshape": {"shape": []}}),
                }
                for name, (datatype, shape) in self.outputs.items()
            ],
            "dynamic_batching": {
                "preferred_batch_size": [max_batch],
                "max_queue_delay_microseconds": 0,
            },
            "instance_group": [],
            "parameters": {},
        }

    def _read(self, header: bytes) -> Inference:
        try:
            record = parse_json(header, self._most_values)
        except BadRecord as error:
            raise Malformed(f"the inference request {error}") from None
        if type(record) is not dict:
            raise Malformed("the inference request is not a JSON object")
        request_id = record.get("id")
        if request_id is not None and not (type(request_id) is str and len(request_id) <= MAX_ID):
            raise Malformed(f"id is no string of at most {MAX_ID} characters")
        parameters = wire.parameters(record, "the request")
        encoded, shape, size, data = self._input(record.get("inputs"))
        outputs = self._wanted(record.get("outputs"), wire.flag(parameters, "binary_data_output"))
        head = self.writer.head(request_id, outputs, shape[0])
        preprocess = parameters.get("preprocess", "auto")
        if preprocess not in ("auto", "raw"):
            raise Malformed("parameter preprocess is not auto or raw")
        timeout_s = wire.timeout_s(parameters)
        return Inference(
            request_id, encoded, shape, size, data, outputs, timeout_s, preprocess, head
        )

    def _input(self, inputs: object) -> tuple[bool, tuple[int, ...], int | None, Any]:
        if type(inputs) is not list or len(inputs) != 1 or type(inputs[0]) is not dict:
            raise Malformed(f"inputs is not a list of one tensor, {INPUT}")
        given = inputs[0]
        if given.get("name") != INPUT:
            raise Malformed(
                f"the input's name is {wire.shown(given.get('name'))}, expected {INPUT!r}"
            )
        datatype, shape = given.get("datatype"), given.get("shape")
        if type(shape) is not list or any(type(extent) is not int for extent in shape):
            raise Malformed(f"{INPUT}: shape is {wire.shown(shape)}, expected whole numbers")
        parameters = wire.parameters(given, INPUT)
        if any(name.startswith("shared_memory") for name in parameters):
            raise Malformed(f"{INPUT}: shared memory is not offered; send the data")
        if datatype == "UINT8":
            expected = ", ".join(map(str, self._shape))
            if shape[1:] != list(self._shape) or shape[0] < 1:
                raise Malformed(f"{INPUT}: shape is {wire.shown(shape)}, expected [N, {expected}]")
            self._check_rows(shape[0], self._max_rows)
        elif datatype == "BYTES":
            if len(shape) not in (1, 2) or shape[1:] not in ([], [1]) or shape[0] < 1:
                raise Malformed(f"{INPUT}: shape is {wire.shown(shape)}, expected [N] for BYTES")
            self._check_rows(shape[0], self._max_images)
        else:
            raise Malformed(
                f"{INPUT}: datatype is {wire.shown(datatype)}, expected UINT8 (pixels) or BYTES "
                "(PNG, JPEG, ...)"
            )
        size = parameters.get("binary_data_size")
        if size is None:
            return datatype == "BYTES", tuple(shape), None, given.get("data")
        if "data" in given:
            raise Malformed(f"{INPUT}: has both data and binary_data_size")
        if type(size) is not int or size < 0:
            raise Malformed(f"{INPUT}: binary_data_size is {wire.shown(size)}, expected bytes")
        if datatype == "UINT8" and size != shape[0] * self._row_bytes:
            raise Malformed(
                f"{INPUT}: binary_data_size is {size}, but UINT8{shape} is "
                f"{shape[0] * self._row_bytes} bytes"
            )
        return datatype == "BYTES", tuple(shape), size, None

    def _wanted(self, outputs: object, binary: bool) -> tuple[Wanted, ...]:
        if outputs is None or outputs == []:
            return self.writer.everything[binary]
        if type(outputs) is not list:
            raise Malformed("outputs is not a list")
        wanted: dict[str, Wanted] = {}
        for given in outputs:
            name = given.get("name") if type(given) is dict else None
            if type(name) is not str or name not in self.outputs:
                raise Malformed(
                    f"output {wire.shown(name)} is not of this model; "
                    f"there are {', '.join(self.outputs)}"
                )
            if name in wanted:
                raise Malformed(f"output {name} is asked for twice")
            parameters = wire.parameters(given, name)
            if any(key.startswith("shared_memory") for key in parameters):
                raise Malformed(f"{name}: shared memory is not offered")
            classes = parameters.get("classification", 0)
            if type(classes) is not int or classes < 0:
                raise Malformed(
                    f"{name}: classification is {wire.shown(classes)}, expected a count"
                )
            if classes and name != "probabilities":
                raise Malformed(f"{name}: only probabilities can be given as a classification")
            classes = min(classes, len(self.manifest.classes))
            wanted[name] = Wanted(name, wire.flag(parameters, "binary_data", binary), classes)
        return tuple(wanted.values())

    def _check_rows(self, rows: int, limit: int) -> None:
        if rows > limit:
            raise Malformed(f"{INPUT}: {rows} images in one request, at most {limit} may be")
