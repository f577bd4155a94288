"""The forms a prediction is asked in: complete HTTP requests, and how to read their answers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.images import Images

Reader = Callable[[dict[str, str], bytes], NDArray[np.float32]]
BATCH = 32  # rows of a batched request

_BOUNDARY = "vitrine-benchmark"


@dataclass(frozen=True, kw_only=True)
class Form:
    """One way of asking.

    `bodies` renders the images as request bodies; `read` turns an answer's headers and body into
    rows: probabilities float32[rows, 10], or, from a surface that gives no full row, indices
    float32[rows, 1].
    """

    name: str
    rows: int
    path: str
    headers: tuple[str, ...]
    bodies: Callable[[Images], list[tuple[str, bytes]]]  # with the header that depends on the body
    read: Reader

    def requests(self, images: Images) -> list[bytes]:
        """Each a whole HTTP/1.1 request, ready for a socket."""
        start = "\r\n".join([f"POST {self.path} HTTP/1.1", "Host: bench", *self.headers])
        return [
            f"{start}{extra}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            for extra, body in self.bodies(images)
        ]


def write(requests: list[bytes], path: Path) -> None:
    """A file that wrk.lua reads: each request after its length, 4 bytes little-endian."""
    with path.open("wb") as file:
        for request in requests:
            file.write(struct.pack("<I", len(request)) + request)


def _png(images: Images) -> list[tuple[str, bytes]]:
    return [("", file) for file in images.files]


def _multipart(images: Images) -> list[tuple[str, bytes]]:
    head = (
        f"--{_BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="image"; filename="digit.png"\r\nContent-Type: image/png\r\n\r\n'
    ).encode()
    tail = f"\r\n--{_BOUNDARY}--\r\n".encode()
    return [("", head + file + tail) for file in images.files]


def _json(images: Images) -> list[tuple[str, bytes]]:
    return [("", _v2_json(image.reshape(-1).tolist())) for image in images.pixels]


def _v2_json(data: list[int]) -> bytes:
    tensor = {"name": "images", "shape": [1, 28, 28], "datatype": "UINT8", "data": data}
    return json.dumps({"inputs": [tensor], "outputs": [{"name": "probabilities"}]}).encode()


def _binary(rows: int) -> Callable[[Images], list[tuple[str, bytes]]]:
    def bodies(images: Images) -> list[tuple[str, bytes]]:
        header = json.dumps(
            {
                "inputs": [
                    {
                        "name": "images",
                        "shape": [rows, 28, 28],
                        "datatype": "UINT8",
                        "parameters": {"binary_data_size": rows * 784},
                    }
                ],
                "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
            }
        ).encode()
        extra = f"\r\nInference-Header-Content-Length: {len(header)}"
        around = np.concatenate([images.pixels, images.pixels[: rows - 1]])
        starts = range(len(images.pixels))
        return [(extra, header + around[i : i + rows].tobytes()) for i in starts]

    return bodies


def read_list(_: dict[str, str], body: bytes) -> NDArray[np.float32]:
    """A bare JSON list of probabilities."""
    return np.array(orjson.loads(body), np.float32).reshape(1, -1)


def read_probabilities(_: dict[str, str], body: bytes) -> NDArray[np.float32]:
    """A JSON object with `probabilities`."""
    return np.array(orjson.loads(body)["probabilities"], np.float32).reshape(1, -1)


def read_v1(_: dict[str, str], body: bytes) -> NDArray[np.float32]:
    """Our own surface: the index it settled on."""
    predictions = orjson.loads(body)["predictions"]
    return np.array([[one["index"]] for one in predictions], np.float32)


def read_v2(headers: dict[str, str], body: bytes) -> NDArray[np.float32]:
    """The Open Inference Protocol, in JSON or with a binary tail."""
    length = int(headers.get("inference-header-content-length", len(body)))
    (output,) = orjson.loads(body[:length])["outputs"]
    if length < len(body):
        data = np.frombuffer(body[length:], np.float32)
    else:
        data = np.array(output["data"], np.float32)
    return data.reshape(output["shape"])


_OCTETS = "Content-Type: application/octet-stream"
_JSON = "Content-Type: application/json"


def png(path: str, read: Reader, name: str = "PNG") -> Form:
    """The image file as the whole body."""
    return Form(
        name=name,
        rows=1,
        path=path,
        headers=("Content-Type: image/png",),
        bodies=_png,
        read=read,
    )


def multipart(path: str, read: Reader) -> Form:
    """The image file as the field `image` of a form."""
    kind = f"Content-Type: multipart/form-data; boundary={_BOUNDARY}"
    return Form(
        name="PNG (multipart)", rows=1, path=path, headers=(kind,), bodies=_multipart, read=read
    )


def v2_json(model: str) -> Form:
    """A tensor of one image as JSON numbers."""
    path = f"/v2/models/{model}/infer"
    return Form(name="V2 JSON", rows=1, path=path, headers=(_JSON,), bodies=_json, read=read_v2)


def v2_binary(model: str, rows: int = 1) -> Form:
    """A tensor of `rows` images as bytes."""
    return Form(
        name="V2 binary" if rows == 1 else f"V2 binary x{rows}",
        rows=rows,
        path=f"/v2/models/{model}/infer",
        headers=(_OCTETS,),
        bodies=_binary(rows),
        read=read_v2,
    )
