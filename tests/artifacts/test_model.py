"""A loaded version: it answers as on the day it was exported, or it is refused."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from artifacts import gpus
from artifacts import manifest as contract
from artifacts import model as loading
from artifacts.gpus import NoGpu
from artifacts.manifest import BadArtifact, Manifest
from artifacts.model import SLICE, Model, NoProvider, Outputs
from artifacts.samples import pack_samples
from tests import toy

Samples = dict[str, NDArray[Any]]
TOY = toy.onnx_bytes()
ROOT = Path(__file__).parents[2]
TELEMETRY = "ORT_DISABLE_TELEMETRY"


@functools.cache
def good_samples() -> Samples:
    return toy.samples(TOY, toy.manifest())


def folder(
    at: Path, model: bytes = TOY, manifest: Manifest | None = None, samples: Samples | None = None
) -> Path:
    """A version folder whose hashes are right, whatever is in it."""
    files = {"model.onnx": model, "samples.npz": pack_samples(samples or good_samples())}
    sealed = contract.seal(manifest or toy.manifest(), files)
    place = at / sealed.version
    place.mkdir(exist_ok=True)
    for name, data in (files | {"manifest.json": sealed.to_json().encode()}).items():
        (place / name).write_bytes(data)
    return place


def graph(
    nodes: list[onnx.NodeProto],
    weights: dict[str, Any],
    *,
    inputs: tuple[Any, ...] = ("images", TensorProto.UINT8, ["N", 28, 28]),
    outputs: tuple[tuple[Any, ...], ...] = (("probabilities", TensorProto.FLOAT, ["N", 2]),),
) -> bytes:
    """An ONNX file of these nodes; `light` is the mean of each image, float32[N, 1]."""
    first = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["light"]),
    ]
    constants = {"axes": np.array([1, 2]), "column": np.array([-1, 1])} | weights
    made = helper.make_graph(
        first + nodes,
        "hostile",
        [helper.make_tensor_value_info(*inputs)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    return bytes(helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString())


def plain_manifest() -> Manifest:
    return toy.manifest(outputs=("probabilities",), alien=None)


def plain_samples() -> Samples:
    return {name: good_samples()[name] for name in ("images", "probabilities")}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return loading.load(folder(tmp_path_factory.mktemp("toy")), execution_provider="cpu")


def test_a_white_image_is_bright_and_a_black_one_dark(model: Model) -> None:
    pixels = np.concatenate([toy.white(2), toy.black(1)])
    found = model.predict(pixels)
    assert found.probabilities.argmax(axis=1).tolist() == [0, 0, 1]
    assert found.energy is not None
    assert found.energy.shape == (3,)
    assert model.provider == "cpu"


def test_outputs_can_be_cut_into_the_rows_of_each_request(model: Model) -> None:
    found = model.predict(np.concatenate([toy.white(2), toy.black(1)]))
    assert len(found) == 3
    assert len(found[1:]) == 2
    assert found[2:].probabilities.argmax() == 1
    assert Outputs(found.probabilities, None)[:1].energy is None


def test_an_image_is_answered_the_same_alone_and_in_any_batch(model: Model) -> None:
    alone = model.predict(toy.white()).probabilities
    for count in (2, 7, 64):
        assert np.array_equal(model.predict(toy.white(count)).probabilities[-1:], alone)


def test_many_images_keep_their_order(model: Model) -> None:
    bright = np.random.default_rng(0).integers(0, 2, 2 * SLICE + 5).astype(np.bool_)
    found = model.predict(np.where(bright[:, None, None], toy.white(), toy.black()))
    assert ((found.probabilities[:, 0] > 0.5) == bright).all()
    assert found.energy is not None
    assert found.energy.shape == bright.shape


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((0, 28, 28), np.uint8),
        np.zeros((28, 28), np.uint8),
        np.zeros((1, 28, 29), np.uint8),
        np.zeros((1, 28, 28, 3), np.uint8),
        np.zeros((1, 28, 28), np.float32),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(model: Model, pixels: Any) -> None:
    with pytest.raises(ValueError, match=r"expected uint8\['N', 28, 28\]"):
        model.predict(pixels)


def test_a_model_may_have_no_energy(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(TOY)
    del model.graph.output[1]
    data = model.SerializeToString()
    found = loading.load(folder(tmp_path, data, plain_manifest(), plain_samples()))
    assert found.predict(toy.white()).energy is None


def test_nothing_is_sent_to_the_runtimes_maker_or_kept_at_home(tmp_path: Path) -> None:
    program = "from tests import toy; toy.samples(toy.onnx_bytes(), toy.manifest())"
    environ = {name: value for name, value in os.environ.items() if name != TELEMETRY}
    environ["HOME"] = str(tmp_path)
    subprocess.run([sys.executable, "-c", program], check=True, env=environ, cwd=ROOT)
    assert list(tmp_path.iterdir()) == []
    assert os.environ[TELEMETRY] == "1"


def test_an_unknown_execution_provider_is_refused() -> None:
    with pytest.raises(ValueError, match="expected auto, cpu or cuda"):
        loading.providers_for("tpu")  # type: ignore[arg-type]


def test_auto_takes_what_there_is_and_cuda_insists(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cpu])
    assert loading.providers_for("auto") == loading.providers_for("cpu") == [cpu]
    with pytest.raises(NoProvider, match="install the gpu extra"):
        loading.providers_for("cuda")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [cuda, cpu])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)

    def without_a_driver() -> int:
        raise NoGpu("there is no driver")

    monkeypatch.setattr(gpus, "count", without_a_driver)
    assert loading.providers_for("auto") == [cpu]
    with pytest.raises(NoProvider, match=r"there is no driver; install the gpu extra"):
        loading.providers_for("cuda")
    monkeypatch.setattr(gpus, "count", lambda: 2)
    assert loading.providers_for("auto") == loading.providers_for("cuda") == [cuda, cpu]


def test_a_session_is_opened_on_the_gpu_of_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    def opened(*_data: object, providers: list[tuple[str, dict[str, str]]]) -> None:
        asked.extend(providers)
        raise RuntimeError("there is no GPU here")

    cpu, cuda = "CPUExecutionProvider", "CUDAExecutionProvider"
    monkeypatch.setattr(loading, "providers_for", lambda _: [cuda, cpu])
    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    with pytest.raises(BadArtifact):
        loading.from_bytes(TOY, toy.manifest(), device=3)
    assert [name for name, _ in asked] == [cuda, cpu]
    assert asked[0][1]["device_id"] == "3"
    assert asked[1][1] == {}


def test_a_session_that_fell_back_silently_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "providers_for", lambda _: ["CPUExecutionProvider"])
    with pytest.raises(NoProvider, match="fell back to the CPU"):
        loading.from_bytes(TOY, toy.manifest(), execution_provider="cuda")
    assert loading.from_bytes(TOY, toy.manifest(), execution_provider="auto").provider == "cpu"


def test_a_model_that_answers_differently_from_its_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"probabilities of the golden samples differ by 1 "):
        loading.load(folder(tmp_path, toy.onnx_bytes(sign=-1.0)))


@pytest.mark.parametrize("name", ["probabilities", "energy"])
@pytest.mark.parametrize("away", [0.001, np.nan, np.inf])
def test_samples_that_are_off_are_refused(tmp_path: Path, name: str, away: float) -> None:
    changed = good_samples() | {name: good_samples()[name] + np.float32(away) * 10}
    with pytest.raises(BadArtifact, match=f"{name} of the golden samples differ"):
        loading.load(folder(tmp_path, samples=changed))


def test_a_difference_within_the_tolerance_is_another_processors_rounding(tmp_path: Path) -> None:
    shifted = good_samples()["probabilities"] + np.float32(5e-5)
    loading.load(folder(tmp_path, samples=good_samples() | {"probabilities": shifted}))


SIGNATURES: dict[str, tuple[dict[str, Any], str]] = {
    "input name": ({"inputs": ("pixels", TensorProto.UINT8, ["N", 28, 28])}, "inputs are pixels"),
    "input type": ({"inputs": ("images", TensorProto.FLOAT, ["N", 28, 28])}, "float"),
    "input size": ({"inputs": ("images", TensorProto.UINT8, ["N", 32, 28])}, "32, 28"),
    "input rank": ({"inputs": ("images", TensorProto.UINT8, ["N", 28, 28, 1])}, "28, 1"),
    "free size": ({"inputs": ("images", TensorProto.UINT8, ["N", "H", 28])}, "'H'"),
    "fixed batch": ({"inputs": ("images", TensorProto.UINT8, [4, 28, 28])}, "inputs are"),
    "output size": ({"outputs": (("probabilities", TensorProto.FLOAT, ["N", 3]),)}, "outputs are"),
    "output rank": ({"outputs": (("probabilities", TensorProto.FLOAT, ["N"]),)}, "outputs are"),
    "output type": ({"outputs": (("probabilities", TensorProto.DOUBLE, ["N", 2]),)}, "double"),
    "output name": ({"outputs": (("scores", TensorProto.FLOAT, ["N", 2]),)}, "outputs are scores"),
    "second output": (
        {
            "outputs": (
                ("probabilities", TensorProto.FLOAT, ["N", 2]),
                ("energy", TensorProto.FLOAT, ["N"]),
            )
        },
        "outputs are .*energy",
    ),
}


@pytest.mark.parametrize("case", SIGNATURES)
def test_another_signature_is_refused_with_what_was_found_and_expected(
    tmp_path: Path, case: str
) -> None:
    changes, message = SIGNATURES[case]
    name, kind, shape = changes.get("inputs", ("images", TensorProto.UINT8, ["N", 28, 28]))
    outputs = changes.get("outputs", (("probabilities", TensorProto.FLOAT, ["N", 2]),))
    # A graph as loose as can be: each output is made by an operator that says little of its shape.
    nodes = [helper.make_node("Cast", [name], ["real"], to=TensorProto.FLOAT)]
    constants = {"fill": np.array([0.5], np.float32)}
    for output, out_kind, out_shape in outputs:
        constants[f"shape-{output}"] = np.array([4, *out_shape[1:]], np.int64)
        nodes += [
            helper.make_node("Expand", ["fill", f"shape-{output}"], [f"wide-{output}"]),
            helper.make_node("Cast", [f"wide-{output}"], [output], to=out_kind),
        ]
    made = helper.make_graph(
        nodes,
        "signature",
        [helper.make_tensor_value_info(name, kind, shape)],
        [helper.make_tensor_value_info(*output) for output in outputs],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    data = helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString()
    with pytest.raises(BadArtifact, match=rf"^model.onnx: .*{message}.*; expected .*'N'"):
        loading.load(folder(tmp_path, data, plain_manifest(), plain_samples()))


def test_an_output_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(TOY)
    model.graph.node.append(helper.make_node("SequenceConstruct", ["probabilities"], ["many"]))
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N", 2]))
    model.graph.output[1].CopyFrom(helper.make_value_info("many", kind))
    with pytest.raises(BadArtifact, match="outputs are"):
        loading.load(folder(tmp_path, model.SerializeToString()))


def test_a_batch_size_that_is_built_in_is_found_out(tmp_path: Path) -> None:
    """Declared free, but every answer has the rows of the samples."""
    data = graph(
        [
            helper.make_node("ReduceMax", ["light"], ["any"], keepdims=0),
            helper.make_node("Mul", ["any", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "sizes"], ["real-shape"]),
            helper.make_node("Cast", ["real-shape"], ["shape"], to=TensorProto.INT64),
            helper.make_node("Expand", ["half", "shape"], ["probabilities"]),
        ],
        {
            "half": np.array([0.5], np.float32),
            "zero": np.float32(0),
            "sizes": np.array([4, 2], np.float32),
        },
    )
    samples = plain_samples() | {"probabilities": np.full((4, 2), 0.5, np.float32)}
    with pytest.raises(BadArtifact, match=r"answers 1 images with outputs of shape \[4, 2\]"):
        loading.load(folder(tmp_path, data, plain_manifest(), samples))


def test_probabilities_must_add_up_to_one(tmp_path: Path) -> None:
    data = graph(
        [helper.make_node("Concat", ["light", "light"], ["probabilities"], axis=1)],
        {},
    )
    samples = plain_samples()
    samples["probabilities"] = samples["images"].mean(axis=(1, 2), dtype=np.float32)[:, None]
    samples["probabilities"] = np.repeat(samples["probabilities"], 2, axis=1)
    with pytest.raises(BadArtifact, match="do not add up to 1"):
        loading.load(folder(tmp_path, data, plain_manifest(), samples))


def test_a_graph_that_expands_to_gigabytes_is_stopped_at_the_limit(tmp_path: Path) -> None:
    data = graph(
        [
            helper.make_node("ConstantOfShape", ["huge"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["zero"], keepdims=0),
            helper.make_node("Add", ["light", "zero"], ["sum"]),
            helper.make_node("Concat", ["sum", "sum"], ["probabilities"], axis=1),
        ],
        {"huge": np.array([loading.TRIAL_LIMIT_BYTES])},  # of float32: four times the limit
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadArtifact, match="does not run on its golden samples"):
        loading.load(folder(tmp_path, data, plain_manifest(), plain_samples()))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < loading.TRIAL_LIMIT_BYTES / 4


def test_a_graph_that_would_run_for_hours_is_stopped_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TRIAL_LIMIT_S", 0.1)
    side = 400
    steps = [
        helper.make_node("MatMul", [f"m{step}", "m0"], [f"m{step + 1}"]) for step in range(20_000)
    ]
    data = graph(
        [
            helper.make_node("Expand", ["zero", "square"], ["m0"]),
            *steps,
            helper.make_node("ReduceMax", ["m20000"], ["top"], keepdims=0),
            helper.make_node("Add", ["light", "top"], ["sum"]),
            helper.make_node("Concat", ["sum", "sum"], ["probabilities"], axis=1),
        ],
        {"zero": np.array([[0.0]], np.float32), "square": np.array([side, side])},
    )
    with pytest.raises(BadArtifact, match=r"does not run on its golden samples \(over 0.1 s\)"):
        loading.load(folder(tmp_path, data, plain_manifest(), plain_samples()))


def test_a_trial_that_passes_does_not_run_beyond_it_either() -> None:
    """What the trial lets pass but a later input breaks is the same bad artifact."""
    model = loading.from_bytes(TOY, toy.manifest())
    with pytest.raises(BadArtifact, match=r"does not run on its golden samples \(ValueError\)"):
        model.verify(good_samples() | {"images": np.zeros((4, 5, 5), np.uint8)})


def test_weights_in_another_file_are_never_read(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(TOY)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    with pytest.raises(BadArtifact, match="keeps weights in another file"):
        loading.load(folder(tmp_path, model.SerializeToString()))


def test_an_unknown_operator_is_refused(tmp_path: Path) -> None:
    data = graph([helper.make_node("Summon", ["light"], ["probabilities"])], {})
    with pytest.raises(BadArtifact, match="ONNX Runtime cannot load it"):
        loading.load(folder(tmp_path, data, plain_manifest(), plain_samples()))


def test_a_later_opset_than_the_runtime_reads_is_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(TOY)
    model.opset_import[0].version = 999
    with pytest.raises(BadArtifact, match="ONNX Runtime cannot load it"):
        loading.load(folder(tmp_path, model.SerializeToString()))


@pytest.mark.parametrize("data", [b"", b"ORTM" * 20, b"\x00" * 64, b"not an onnx file"])
def test_bytes_that_are_no_model_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BadArtifact, match=r"^model.onnx: "):
        loading.load(folder(tmp_path, data))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(TOY) - 1), st.integers(0, 255))
def test_a_flipped_byte_gives_a_model_or_a_bad_artifact(tmp_path: Path, at: int, byte: int) -> None:
    data = bytearray(TOY)
    data[at] = byte
    try:
        found = loading.load(folder(tmp_path, bytes(data)))
    except BadArtifact:
        return
    assert found.predict(toy.white()).probabilities.argmax() == 0


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    labels = {"en": ("a", "b", "c"), "pt": ("a", "b", "c")}
    facts = replace(toy.manifest(labels=labels, references={}), test={**THREE})
    samples = good_samples() | {"probabilities": np.full((4, 3), 1 / 3, np.float32)}
    with pytest.raises(BadArtifact, match=r"outputs are .*2\].*expected .*3\]"):
        loading.load(folder(tmp_path, TOY, facts, samples))


THREE = {"count": 1, "correct": 1, "accuracy": 1.0, "interval": [0.2, 1.0]}
