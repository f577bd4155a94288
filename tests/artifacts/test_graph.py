"""What an ONNX file may hold: hostile graphs are refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from artifacts import graph
from artifacts.manifest import BadArtifact
from tests import toy

TOY = toy.onnx_bytes()


def changed(change: Callable[[onnx.ModelProto], object]) -> bytes:
    """The toy after a change to its protobuf."""
    model = onnx.load_model_from_string(TOY)
    change(model)
    return bytes(model.SerializeToString())


def add_node(kind: str, **attributes: Any) -> Callable[[onnx.ModelProto], None]:
    domain = attributes.pop("domain", "")
    node = helper.make_node(kind, [], ["extra"], domain=domain, **attributes)
    return lambda model: model.graph.node.append(node)


def tensor(**fields: Any) -> TensorProto:
    made = numpy_helper.from_array(np.zeros(2, np.float32), "weights")
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def external() -> TensorProto:
    made = tensor(data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="/etc/passwd")
    return made


def within(inner: onnx.GraphProto, depth: int) -> onnx.GraphProto:
    """A graph in a graph in a graph, each the branch of an If."""
    for _ in range(depth):
        node = helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)
        inner = helper.make_graph([node], "g", [], [])
    return inner


def empty() -> onnx.GraphProto:
    return helper.make_graph([], "g", [], [])


def loop() -> onnx.GraphProto:
    return helper.make_graph([helper.make_node("Loop", ["", ""], ["o"], body=empty())], "g", [], [])


def sparse() -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.ones(1, np.float32), "values"),
        numpy_helper.from_array(np.zeros(1, np.int64), "indices"),
        [100_000, 100_000],
    )


def function() -> onnx.FunctionProto:
    return helper.make_function("own", "laugh", ["x"], ["y"], [], [])


def test_an_exported_graph_passes() -> None:
    graph.check(TOY)


def test_branches_and_scans_pass() -> None:
    graph.check(changed(add_node("If", then_branch=empty(), else_branch=empty())))
    graph.check(changed(add_node("Scan", body=empty(), num_scan_inputs=1)))


HOSTILE = {
    "weights in another file": (lambda m: m.graph.initializer.append(external()), "another file"),
    "a file without a location": (
        lambda m: m.graph.initializer.append(tensor(data_location=TensorProto.EXTERNAL)),
        "another file",
    ),
    "a constant in another file": (add_node("Constant", value=external()), "another file"),
    "a list of such": (
        lambda m: m.graph.node[0].attribute.append(
            onnx.AttributeProto(name="t", type="TENSORS", tensors=[external()])
        ),
        "another file",
    ),
    "one inside a branch": (
        add_node(
            "If",
            then_branch=helper.make_graph([], "g", [], [], [external()]),
            else_branch=empty(),
        ),
        "another file",
    ),
    "a loop": (add_node("Loop", body=empty()), r"\.Loop may never end"),
    "a loop inside a branch": (
        add_node("If", then_branch=loop(), else_branch=empty()),
        "may never end",
    ),
    "an operator of Microsoft's": (
        add_node("EPContext", domain="com.microsoft"),
        "com.microsoft.EPContext is not ONNX's own",
    ),
    "an operator of nobody's": (add_node("Own", domain="x" * 5000), "not ONNX's own"),
    "a function": (lambda m: m.functions.append(function()), "functions"),
    "sparse weights": (lambda m: m.graph.sparse_initializer.append(sparse()), "sparse"),
    "a sparse constant": (add_node("Constant", sparse_value=sparse()), "sparse"),
    "graphs within graphs": (lambda m: m.graph.CopyFrom(within(empty(), 9)), "deep"),
    "no graph": (lambda m: m.ClearField("graph"), "holds 0 graphs"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_graph_is_refused(name: str) -> None:
    change, message = HOSTILE[name]
    with pytest.raises(BadArtifact, match=rf"^model.onnx: .*{message}") as caught:
        graph.check(changed(change))
    assert len(str(caught.value)) < 200


def test_a_second_graph_that_protobuf_would_merge_into_the_first_is_refused() -> None:
    with pytest.raises(BadArtifact, match="2 graphs"):
        graph.check(TOY + TOY)


def test_a_graph_of_very_many_nodes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "MAX_NODES", 5)
    with pytest.raises(BadArtifact, match="9 nodes, at most 5"):
        graph.check(TOY)


def test_a_forest_of_a_million_numbers_is_passed_over_quickly() -> None:
    numbers = helper.make_attribute("nodes_truenodeids", [1 << 40] * 1_000_000)
    values = helper.make_attribute("nodes_values", [0.5] * 1_000_000)
    last = helper.make_attribute("hidden", external())
    graph.check(changed(lambda m: m.graph.node[0].attribute.extend([numbers, values])))
    with pytest.raises(BadArtifact, match="another file"):
        graph.check(changed(lambda m: m.graph.node[0].attribute.extend([numbers, values, last])))


def test_a_truncated_file_is_refused_wherever_it_was_cut() -> None:
    for length in range(len(TOY)):
        cut = TOY[:length]
        try:  # a cut between two fields leaves a file that is whole, but holds less
            graph.check(cut)
        except BadArtifact:
            continue
        assert onnx.load_model_from_string(cut).HasField("graph")


@pytest.mark.parametrize(
    "data",
    [
        b"\x0b",
        b"\x0f",
        b"\x80" * 20,
        b"\x3d\x00",
        b"\x39\x00",
        b"\x0a\xff\xff\x0f",
        b"\x40",
    ],
    ids=["group", "wire-7", "endless-varint", "cut-i32", "cut-i64", "beyond", "cut-int"],
)
def test_bytes_that_are_no_protobuf_are_refused(data: bytes) -> None:
    with pytest.raises(BadArtifact, match="no ONNX file"):
        graph.check(data)


@given(st.binary(max_size=300))
def test_random_bytes_are_never_a_graph(data: bytes) -> None:
    with pytest.raises(BadArtifact, match=r"^model.onnx: "):
        graph.check(data)


@given(st.integers(0, len(TOY) - 1), st.integers(0, 255))
def test_a_flipped_byte_passes_or_is_a_bad_artifact(at: int, byte: int) -> None:
    data = bytearray(TOY)
    data[at] = byte
    try:
        graph.check(bytes(data))
    except BadArtifact as error:
        refusal = str(error)
        assert refusal.startswith("model.onnx: ")
