"""Open Inference Protocol requests are read exactly or refused; answers are right to the byte."""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.answers import Answers
from service.tensors import CACHED_HEADERS, Inference, Signature
from service.wire import Malformed
from tests import toy

PIXELS = 28 * 28


@pytest.fixture
def signature() -> Signature:
    return Signature(toy.manifest(version="0123456789ab"), max_rows=64, max_images=8)


def tensor(rows: int = 1, **changes: Any) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": [rows, 28, 28]} | changes


def binary(rows: int = 1, **record: Any) -> bytes:
    given = tensor(rows, parameters={"binary_data_size": rows * PIXELS})
    return orjson.dumps({"inputs": [given], **record})


def answers(rows: int = 2) -> Answers:
    probabilities = np.array([[0.9, 0.1], [0.25, 0.75]], np.float32)[:rows]
    energy = np.array([-3.0, -2.5], np.float32)[:rows]
    receipts = ["r0", "r1"][:rows]
    return Answers(
        probabilities, energy, [0, 1][:rows], ["accept", "alien"][:rows], lambda: receipts
    )


def written(signature: Signature, asked: Inference, rows: int = 2) -> tuple[Any, bytes]:
    body, length = signature.writer.write(asked.id, asked.head, asked.outputs, answers(rows))
    head = body if length is None else body[:length]
    return orjson.loads(head), body[len(head) :]


def test_binary_pixels_are_read_where_they_lie(signature: Signature) -> None:
    header = binary(2)
    body = header + bytes(range(256)) * 6 + bytes(2 * PIXELS - 6 * 256)
    asked = signature.read(header, tail=2 * PIXELS)
    rows = signature.pixels(asked, body, len(header))
    assert rows.shape == (2, 28, 28)
    assert rows.tobytes() == body[len(header) :]
    assert not rows.flags.owndata


def test_flat_and_nested_json_are_the_same_pixels(signature: Signature) -> None:
    flat = [value % 256 for value in range(2 * PIXELS)]
    nested = np.array(flat).reshape(2, 28, 28).tolist()
    for data in (flat, nested):
        body = orjson.dumps({"inputs": [tensor(2, data=data)]})
        asked = signature.read(body, tail=None)
        assert signature.pixels(asked, body, len(body)).ravel().tolist() == flat


def test_a_header_that_is_repeated_is_parsed_once_and_few_are_remembered(
    signature: Signature,
) -> None:
    header = binary()
    assert signature.read(header, tail=PIXELS) is signature.read(header, tail=PIXELS)
    for number in range(3 * CACHED_HEADERS):
        signature.read(binary(id=str(number)), tail=PIXELS)
    assert len(signature._seen) <= CACHED_HEADERS


def test_a_remembered_header_does_not_vouch_for_the_next_body(signature: Signature) -> None:
    header = binary()
    signature.read(header, tail=PIXELS)
    for tail in (PIXELS - 1, PIXELS + 1, 0, None):
        with pytest.raises(Malformed):
            signature.read(header, tail=tail)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{}",
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": {"name": "images"}}',
        b'{"inputs": [NaN]}',
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)] * 2}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "id": 7}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "id": "x" * 257}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "parameters": []}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "parameters": {"timeout": -1}}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "parameters": {"timeout": True}}),
        orjson.dumps({"inputs": [tensor(data=[0] * PIXELS)], "parameters": {"preprocess": "no"}}),
        orjson.dumps(
            {"inputs": [tensor(data=[0] * PIXELS)], "parameters": {"binary_data_output": 1}}
        ),
        orjson.dumps({"inputs": [tensor(name="image", data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(datatype="FP32", data=[0.0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(shape=[1, 28], data=[0] * 28)]}),
        orjson.dumps({"inputs": [tensor(shape=[], data=[])]}),
        orjson.dumps({"inputs": [tensor(shape=[0, 28, 28], data=[])]}),
        orjson.dumps({"inputs": [tensor(shape=[-1, 28, 28], data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(shape=[-1, -28, 28], data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(shape=[1.0, 28, 28], data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(shape=[True, 28, 28], data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(shape=[2**62, 28, 28], data=[0] * PIXELS)]}),
        b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1e400, 28, 28]}]}',
        orjson.dumps({"inputs": [tensor(shape="1,28,28", data=[0] * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(65, data=[0] * 65 * PIXELS)]}),
        orjson.dumps({"inputs": [tensor(datatype="BYTES", shape=[9], data=[""] * 9)]}),
        orjson.dumps({"inputs": [tensor(datatype="BYTES", shape=[1, 2], data=["", ""])]}),
        orjson.dumps({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}),
        orjson.dumps({"inputs": [tensor(parameters={"binary_data_size": -1})]}),
        orjson.dumps({"inputs": [tensor(parameters={"binary_data_size": 783})]}),
        orjson.dumps({"inputs": [tensor(data=[0], parameters={"binary_data_size": 784})]}),
    ],
)
def test_what_breaks_the_protocol_is_refused(signature: Signature, header: bytes) -> None:
    with pytest.raises(Malformed):
        signature.read(header, tail=None)


@pytest.mark.parametrize(
    "data",
    [
        None,
        "0" * PIXELS,
        [0] * (PIXELS - 1),
        [0] * (PIXELS + 1),
        [0.5] * PIXELS,
        [256] + [0] * (PIXELS - 1),
        [-1] + [0] * (PIXELS - 1),
        [True] + [0] * (PIXELS - 1),
        [None] * PIXELS,
        ["0"] * PIXELS,
        [[0] * PIXELS],
        [[[0] * 28] * 27 + [0]],
        [[[0] * 28] * 27 + [[0] * 27]],
        [[[[0] * 28] * 28]],
    ],
)
def test_data_that_are_no_pixels_are_refused(signature: Signature, data: object) -> None:
    body = orjson.dumps({"inputs": [tensor(data=data)]})
    with pytest.raises(Malformed):
        signature.pixels(signature.read(body, tail=None), body, len(body))


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        [1],
        [{}],
        [{"name": "logits"}],
        [{"name": "label"}, {"name": "label"}],
        [{"name": "label", "parameters": {"binary_data": "yes"}}],
        [{"name": "label", "parameters": {"classification": 1}}],
        [{"name": "probabilities", "parameters": {"classification": -1}}],
        [{"name": "probabilities", "parameters": {"classification": 1.5}}],
        [{"name": "probabilities", "parameters": {"shared_memory_region": "x"}}],
    ],
)
def test_outputs_that_cannot_be_had_are_refused(signature: Signature, outputs: object) -> None:
    with pytest.raises(Malformed):
        signature.read(binary(outputs=outputs), tail=PIXELS)


@given(st.binary(max_size=60))
def test_no_bytes_of_any_kind_break_the_reader(data: bytes) -> None:
    signature = Signature(toy.manifest(version="0123456789ab"), max_rows=64, max_images=8)
    with pytest.raises(Malformed):
        signature.read(data, tail=None)


def test_a_bare_tensor_has_as_many_rows_as_fit(signature: Signature) -> None:
    asked = signature.read_raw(3 * PIXELS)
    assert asked.shape == (3, 28, 28)
    assert all(wanted.binary for wanted in asked.outputs)
    for size in (0, 1, PIXELS + 1, 65 * PIXELS):
        with pytest.raises(Malformed):
            signature.read_raw(size)


def test_encoded_images_come_length_prefixed_or_as_base64(signature: Signature) -> None:
    files = [b"first", b"", b"\xff\x00"]
    tail = b"".join(struct.pack("<I", len(file)) + file for file in files)
    given = tensor(datatype="BYTES", shape=[3], parameters={"binary_data_size": len(tail)})
    header = orjson.dumps({"inputs": [given]})
    asked = signature.read(header, tail=len(tail))
    assert signature.images(asked, header + tail, len(header)) == files
    texts = [base64.b64encode(file).decode() for file in files]
    for shape, data in (([3], texts), ([3, 1], [[text] for text in texts])):
        body = orjson.dumps({"inputs": [tensor(datatype="BYTES", shape=shape, data=data)]})
        assert signature.images(signature.read(body, tail=None), body, len(body)) == files


@pytest.mark.parametrize(
    "tail", [b"", b"\x01\x00\x00", b"\x05\x00\x00\x00abc", b"\xff\xff\xff\xffabc", b"\0\0\0\0\0"]
)
def test_elements_that_do_not_fit_are_refused(signature: Signature, tail: bytes) -> None:
    given = tensor(datatype="BYTES", shape=[1], parameters={"binary_data_size": len(tail)})
    header = orjson.dumps({"inputs": [given]})
    asked = signature.read(header, tail=len(tail))
    with pytest.raises(Malformed):
        signature.images(asked, header + tail, len(header))


def test_text_that_is_no_base64_is_refused(signature: Signature) -> None:
    for data in (["*"], [7], ["é"]):
        body = orjson.dumps({"inputs": [tensor(datatype="BYTES", shape=[1], data=data)]})
        with pytest.raises(Malformed):
            signature.images(signature.read(body, tail=None), body, len(body))


def test_every_output_comes_where_none_is_named(signature: Signature) -> None:
    head, tail = written(signature, signature.read(binary(2, id="a"), tail=2 * PIXELS))
    assert (head["model_name"], head["model_version"], head["id"]) == ("toy", "0123456789ab", "a")
    found = {output["name"]: output for output in head["outputs"]}
    assert found["probabilities"]["data"] == [0.9, 0.1, 0.25, 0.75]
    assert found["probabilities"]["shape"] == [2, 2]
    assert found["energy"]["data"] == [-3.0, -2.5]
    assert found["label"]["data"] == ["bright", "dark"]
    assert found["decision"]["data"] == ["accept", "alien"]
    assert found["receipt"]["data"] == ["r0", "r1"]
    assert not tail


def test_numbers_come_as_little_endian_bytes_behind_the_json(signature: Signature) -> None:
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in ("energy",)]
    wanted.append({"name": "probabilities", "parameters": {"binary_data": True}})
    header = binary(2, outputs=wanted)
    head, tail = written(signature, signature.read(header, tail=2 * PIXELS))
    assert [output["parameters"]["binary_data_size"] for output in head["outputs"]] == [8, 16]
    assert np.frombuffer(tail, "<f4").tolist() == pytest.approx([-3, -2.5, 0.9, 0.1, 0.25, 0.75])


def test_one_output_may_be_binary_and_another_json(signature: Signature) -> None:
    header = binary(
        2,
        parameters={"binary_data_output": True},
        outputs=[{"name": "label"}, {"name": "energy", "parameters": {"binary_data": False}}],
    )
    head, tail = written(signature, signature.read(header, tail=2 * PIXELS))
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(tail)}
    assert tail == b"\x06\0\0\0bright\x04\0\0\0dark"
    assert head["outputs"][1]["data"] == [-3.0, -2.5]


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (1000, 2)])
def test_a_classification_names_the_likeliest_first(
    signature: Signature, count: int, columns: int
) -> None:
    wanted = [{"name": "probabilities", "parameters": {"classification": count}}]
    head, _ = written(signature, signature.read(binary(2, outputs=wanted), tail=2 * PIXELS))
    (output,) = head["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, columns])
    assert output["data"][0] == "0.900000:0:bright"
    assert output["data"][columns] == "0.750000:1:dark"


def test_a_model_without_energy_offers_none() -> None:
    facts = toy.manifest(version="0123456789ab", outputs=("probabilities",), alien=None)
    signature = Signature(facts, max_rows=1, max_images=1)
    assert "energy" not in [output["name"] for output in signature.metadata()["outputs"]]
    with pytest.raises(Malformed):
        signature.read(binary(outputs=[{"name": "energy"}]), tail=PIXELS)
