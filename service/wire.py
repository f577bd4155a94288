"""How tensors lie in JSON and in the bytes behind it: the Open Inference Protocol's own forms."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any, NoReturn

INPUT = "images"  # the one input of every model here


class Malformed(ValueError):
    """The request breaks the protocol or the model's signature; the message may be shown."""


def json_output(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> dict[str, Any]:
    """An output whose data are in the JSON."""
    return {"name": name, "datatype": datatype, "shape": list(shape), "data": data}


def binary_output(name: str, datatype: str, shape: tuple[int, ...], size: int) -> dict[str, Any]:
    """An output whose data, `size` bytes, follow the JSON."""
    parameters = {"binary_data_size": size}
    return {"name": name, "datatype": datatype, "shape": list(shape), "parameters": parameters}


def string_output(
    name: str, shape: tuple[int, ...], texts: list[str], *, binary: bool
) -> tuple[dict[str, Any], bytes | None]:
    """An output of datatype BYTES, and its data if they follow the JSON."""
    if not binary:
        return json_output(name, "BYTES", shape, texts), None
    parts = [part for text in texts for part in _prefixed(text.encode())]
    tail = b"".join(parts)
    return binary_output(name, "BYTES", shape, len(tail)), tail


def _prefixed(data: bytes) -> tuple[bytes, bytes]:
    return len(data).to_bytes(4, "little"), data


def elements(body: bytes, start: int, count: int) -> list[bytes]:
    """`count` elements of BYTES, each after its length in 4 bytes, little-endian."""
    found, at, end = [], start, len(body)
    for _ in range(count):
        begin = at + 4
        at = begin + int.from_bytes(body[at:begin], "little")
        if begin > end or at > end:
            raise Malformed(f"{INPUT}: the data end within an element, of {count} expected")
        found.append(body[begin:at])
    if at != end:
        raise Malformed(f"{INPUT}: {end - at} bytes follow the {count} elements of its shape")
    return found


def flattened(data: object, shape: tuple[int, ...]) -> list[Any]:
    """The elements of a list that is flat, or nested as `shape` says."""
    if type(data) is not list:
        raise Malformed(f"{INPUT}: has neither data, a list, nor binary_data_size")
    flat: list[Any] = data
    if flat and type(flat[0]) is list:
        count = shape[0]
        for extent in shape[1:]:
            if len(flat) != count or any(
                type(part) is not list or len(part) != extent for part in flat
            ):
                raise Malformed(f"{INPUT}: data are not nested as the shape {list(shape)} says")
            flat = list(chain.from_iterable(flat))
            count *= extent
    if len(flat) != math.prod(shape):
        raise Malformed(
            f"{INPUT}: {len(flat)} elements of data, but the shape {list(shape)} "
            f"is {math.prod(shape)}"
        )
    return flat


def parameters(record: dict[str, Any], of: str) -> dict[str, Any]:
    """The parameters of the request, an input or an output; `of` names it in errors."""
    parameters = record.get("parameters")
    if parameters is None:
        return {}
    if type(parameters) is not dict:
        raise Malformed(f"{of}: parameters is not an object")
    return parameters


def flag(parameters: dict[str, Any], name: str, default: bool = False) -> bool:
    """A parameter that is true or false."""
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise Malformed(f"parameter {name} is {shown(value)}, expected true or false")
    return value


def timeout_s(parameters: dict[str, Any]) -> float:
    """The request's `timeout`, in microseconds there; 0 is none."""
    value = parameters.get("timeout", 0)
    if type(value) is not int or value < 0:
        raise Malformed(f"parameter timeout is {shown(value)}, expected microseconds")
    return value / 1e6 if value else math.inf


def refuse_tail(size: int | None, tail: int | None) -> NoReturn:
    """Raises Malformed: so many bytes follow the JSON, or None may."""
    if tail is None:
        raise Malformed(
            f"{INPUT}: has a binary_data_size, but there is no Inference-Header-Content-Length"
        )
    raise Malformed(f"{tail} bytes follow the JSON, but its binary_data_size is {size or 0}")


def shown(value: object) -> str:
    """A client's value in a message: at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
