"""What an ONNX file may hold, found by reading its bytes, before anything is built or run.

ONNX Runtime trusts a graph: weights may be read from any file it names, a loop may never end, a
function may expand without bound, a sparse tensor be unpacked to any size. None of it is needed by
an exported classifier, so all of it is refused. Standard library only: the wire format is simple
(https://protobuf.dev/programming-guides/encoding/), the field numbers are those of onnx.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from artifacts.manifest import MODEL_FILE, BadArtifact

DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
MAX_NODES = 50_000
MAX_DEPTH = 4  # graphs within graphs: the branches of an If, the body of a Scan

# Field numbers in ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE = (5, 10), (6, 11), (22, 23)
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14

_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5
_Field = tuple[int, int, int, int]  # number, value, start, end: of the value's bytes, if it has any

# The trees of a forest are attributes of a million numbers, each a field of its own ("floats", 7,
# or "ints", 8): passed over at a regular expression's speed.
_NUMBERS = re.compile(rb"(?:\x3d.{4}|\x40[\x80-\xff]{0,9}[\x00-\x7f])++", re.DOTALL)


def check(model: bytes) -> None:
    """Raise BadArtifact unless `model` is an ONNX file of known, self-contained, finite parts."""
    try:
        graphs = 0
        for number, _, start, end in _fields(model, 0, len(model)):
            if number == _MODEL_FUNCTIONS:
                raise _refused("holds functions; inline them when exporting")
            if number == _MODEL_GRAPH:
                graphs += 1
                _check_graph(model, start, end, depth=1)
    except _NotProtobuf as error:
        raise BadArtifact(
            f"{MODEL_FILE}: no ONNX file, or a truncated one ({error}); restore it or re-export"
        ) from error
    if graphs != 1:
        raise _refused(f"holds {graphs} graphs, expected 1; re-export")


class _NotProtobuf(Exception):
    pass


def _refused(what: str) -> BadArtifact:
    return BadArtifact(f"{MODEL_FILE}: {what}")


def _check_graph(data: bytes, start: int, end: int, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _refused(f"graphs within graphs, over {MAX_DEPTH} deep; re-export")
    nodes = 0
    for number, _, at, stop in _fields(data, start, end):
        if number == _GRAPH_NODE:
            nodes += 1
            _check_node(data, at, stop, depth)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(data, at, stop)
        elif number == _GRAPH_SPARSE:
            raise _refused("holds sparse weights; store them dense")
    if nodes > MAX_NODES:
        raise _refused(f"a graph of {nodes} nodes, at most {MAX_NODES} are allowed; re-export")


def _check_node(data: bytes, start: int, end: int, depth: int) -> None:
    kind, domain = b"", b""
    for number, _, at, stop in _fields(data, start, end):
        if number == _NODE_TYPE:
            kind = data[at:stop]
        elif number == _NODE_DOMAIN:
            domain = data[at:stop]
        elif number == _NODE_ATTRIBUTE:
            _check_attribute(data, at, stop, depth)
    shown = f"{domain[:40].decode(errors='replace')}.{kind[:40].decode(errors='replace')}"
    if domain.decode(errors="replace") not in DOMAINS:
        raise _refused(f"operator {shown} is not ONNX's own; export with standard operators")
    if kind == b"Loop":
        raise _refused(f"operator {shown} may never end; export without loops")


def _check_attribute(data: bytes, start: int, end: int, depth: int) -> None:
    for number, _, at, stop in _fields(data, start, end):
        if number in _ATTRIBUTE_GRAPHS:
            _check_graph(data, at, stop, depth + 1)
        elif number in _ATTRIBUTE_TENSORS:
            _check_tensor(data, at, stop)
        elif number in _ATTRIBUTE_SPARSE:
            raise _refused("holds sparse weights; store them dense")


def _check_tensor(data: bytes, start: int, end: int) -> None:
    for number, value, _, _ in _fields(data, start, end):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value):
            raise _refused("keeps weights in another file; export with external_data=False")


def _fields(data: bytes, at: int, end: int) -> Iterator[_Field]:
    """The fields of the message in data[at:end]; runs of an attribute's numbers are left out."""
    while at < end:
        numbers = _NUMBERS.match(data, at, end)
        if numbers:
            at = numbers.end()
            continue
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        value, start = 0, at
        if wire == _VARINT:
            value, at = _varint(data, at, end)
        elif wire == _BYTES:
            length, start = _varint(data, at, end)
            at = start + length
        elif wire in (_I32, _I64):
            at += 4 if wire == _I32 else 8
        else:
            raise _NotProtobuf(f"wire type {wire} at byte {at}")
        if at > end:
            raise _NotProtobuf(f"a field reaches {at - end} bytes beyond its message at {start}")
        # A field of an unexpected wire type is an unknown field, to every reader of protobuf.
        if wire == _BYTES or (wire == _VARINT and number == _TENSOR_LOCATION):
            yield number, value, start, at


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _NotProtobuf(f"it ends within a number at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _NotProtobuf(f"a number of over ten bytes at byte {at}")
