"""The ImageNet architectures, whole: names, sizes, published weights, and where those come from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from torch import Tensor, nn

from tests.training.small import little_mnist
from training import datasets, imagenet
from training.__main__ import main
from training.depthwise import Depthwise
from training.imagenet import PUBLISHED, BadWeights, Published
from training.nets import BackboneNet, build, multiply_accumulates
from training.recipe import Backbone, BadRecipe
from training.recipes import RECIPES

LITE = "efficientnet_lite0"
EVERY = pytest.mark.parametrize("name", PUBLISHED)
# Parameters as their publishers count them; and the first digits of the SHA-256 over the lines
# "name shape" of a state: those of torchvision 0.29.2's models, and of the file of EfficientNet's.
SIZES = {
    "vgg16": (138_357_544, "35c4623e0cd4a39d"),
    "resnet34": (21_797_672, "28f9096d51307499"),
    "mobilenet_v3_small": (2_542_856, "5f0efaf3ff4ac979"),
    LITE: (4_652_008, "f19038aa9e94bf26"),
}


def names(state: dict[str, Tensor]) -> str:
    lines = "\n".join(f"{name} {tuple(value.shape)}" for name, value in state.items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@EVERY
def test_parameters_are_as_many_and_are_called_as_published(name: str) -> None:
    with torch.device("meta"):
        net = PUBLISHED[name].build(1000, 3, 1.0)
    assert (sum(p.numel() for p in net.parameters()), names(net.state_dict())) == SIZES[name]


def test_our_lite0_answers_as_the_package_that_publishes_its_weights_does() -> None:
    from efficientnet_lite_pytorch import EfficientNet  # the oracle, and nothing else

    weights = imagenet.read(LITE)
    ours, theirs = PUBLISHED[LITE].build(1000, 3, 1.0), EfficientNet.from_name("efficientnet-lite0")
    ours.load_state_dict(weights)
    theirs.load_state_dict(weights)
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (ours.eval()(image) - theirs.eval()(image)).abs().max() < 1e-4


def test_a_grey_image_is_seen_as_in_grey_colours() -> None:
    shape = Backbone(architecture="efficientnet_lite0", resolution=64)
    grey, colour = BackboneNet(shape, 1, 10).eval(), BackboneNet(shape, 3, 10).eval()
    weights = imagenet.read(LITE)
    grey.load(weights)
    colour.load(weights)
    colour.body.get_submodule("_fc").load_state_dict(grey.body.get_submodule("_fc").state_dict())
    image = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(grey(image), colour(image.expand(-1, 3, -1, -1)), atol=1e-4)


def test_published_weights_of_another_architecture_are_refused() -> None:
    net = BackboneNet(Backbone(architecture="resnet34", resolution=32, width=0.25), 1, 10)
    with torch.device("meta"):
        other = PUBLISHED["resnet34"].build(1000, 3, 1.0).state_dict()
    with pytest.raises(ValueError, match="another network"):
        net.load({name: torch.zeros(value.shape) for name, value in other.items()})


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("side", [2, 7, 8])
def test_the_quick_gradient_of_a_depthwise_filter_is_torchs(
    kernel: int, stride: int, side: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 8, side, side, generator=generator, dtype=torch.double).requires_grad_()
    layer = Depthwise(8, kernel, stride, kernel // 2).double()

    def gradients() -> tuple[Tensor, ...]:
        answer = layer(image)
        weights = torch.linspace(-1, 1, answer.numel(), dtype=torch.double).view_as(answer)
        return torch.autograd.grad((answer * weights).sum(), [image, layer.weight])

    quick = gradients()
    layer.eval()  # plain torch
    for ours, theirs in zip(quick, gradients(), strict=True):
        assert torch.allclose(ours, theirs)


def test_filters_of_one_channel_are_counted_once() -> None:
    net = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8))
    assert multiply_accumulates(net, torch.zeros(1, 8, 4, 4)) == 8 * 9 * 16


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 28}, "net.resolution is 28, expected a side from 32"),
        ({"width": 0.5}, "net.width is 0.5, expected 1"),
        ({"architecture": "alexnet"}, "net.architecture is 'alexnet', expected one of vgg16"),
    ],
)
def test_a_backbone_that_cannot_work_is_refused(change: dict[str, object], message: str) -> None:
    recipe = RECIPES["fashion-resnet34"]
    assert isinstance(recipe.net, Backbone)
    with pytest.raises(BadRecipe, match=message):
        replace(recipe, net=replace(recipe.net, **change))  # type: ignore[arg-type]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Published:
    """ResNet-34's entry for a narrow one, its file published by nobody yet."""
    known = PUBLISHED["resnet34"]
    narrow = partial(narrowed, known)
    file = tmp_path / "published.pth"
    torch.save(narrow(1000, 3, 1.0).state_dict(), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    entry = replace(known, build=narrow, file=f"tiny-{digest}.pth", sha256=digest, url="")
    file.rename(tmp_path / entry.file)
    monkeypatch.setitem(PUBLISHED, "resnet34", entry)
    monkeypatch.setattr(imagenet, "TORCH_HUB", tmp_path / "hub")
    monkeypatch.delenv("VITRINE_DATA", raising=False)
    return entry


def narrowed(known: Published, classes: int, channels: int, width: float) -> nn.Module:
    return known.build(classes, channels, width / 16)


def test_weights_are_downloaded_once_and_checked(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/{tiny.file}"
    monkeypatch.setitem(PUBLISHED, "resnet34", replace(tiny, url=url))
    state = imagenet.read("resnet34", data=tmp_path / "data")
    server.shutdown()
    server.server_close()
    again = imagenet.read("resnet34", data=tmp_path / "data")
    assert torch.equal(state["conv1.weight"], again["conv1.weight"])
    (tmp_path / "data/imagenet" / tiny.file).write_bytes(b"something else")
    with pytest.raises(BadWeights, match=f"is {tiny.sha256}"):
        imagenet.read("resnet34", data=tmp_path / "data")


def test_without_a_network_the_ways_to_get_the_weights_are_named(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PUBLISHED, "resnet34", replace(tiny, url="http://127.0.0.1:9/x.pth"))
    with pytest.raises(BadWeights) as caught:
        imagenet.read("resnet34", data=tmp_path / "data")
    for way in ("http://127.0.0.1:9/x.pth", "--weights FILE", "data/imagenet/", "--weights none"):
        assert way in str(caught.value)


@pytest.fixture
def small_recipe(tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a recipe that trains the narrow net on a few made-up digits."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRINE_STATE", str(tmp_path / "state"))
    dataset = little_mnist(tmp_path / "data/mnist")
    monkeypatch.setitem(datasets.DATASETS, "mnist", dataset)
    net = Backbone(architecture="resnet34", resolution=32)
    recipe = replace(
        RECIPES["fashion-resnet34"], name="tiny", dataset="mnist", net=net, epochs=1, min_accuracy=0
    )
    monkeypatch.setitem(RECIPES, "tiny", replace(recipe, split="standard"))
    return tiny.file


def test_a_pretrained_recipe_refuses_to_start_without_its_weights(
    small_recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "tiny", "--out", "run"]) == 1
    said = capsys.readouterr().err
    assert small_recipe in said
    assert "--weights none" in said


def test_a_pretrained_recipe_is_trained_from_a_file_or_from_scratch(
    small_recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "tiny", "--weights", small_recipe, "--out", "run"]) == 0
    assert main(["run", "tiny", "--weights", "none", "--out", "scratch"]) == 0
    manifests = [p.read_text() for p in (tmp_path / "state/models/tiny").glob("*/manifest.json")]
    assert sorted(f'"file": "{small_recipe}"' in text for text in manifests) == [False, True]
    assert main(["run", "mnist-cnn", "--weights", "none", "--out", "run"]) == 1
    assert "no ImageNet weights" in capsys.readouterr().err


def test_what_is_not_trained_to_the_end_is_listed_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--state", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (line for line in lines if line.startswith("fashion-vgg16 "))
    assert "untrained" in line
    assert "Not trained to the end" in line


def test_every_backbone_recipe_is_built_whole() -> None:
    with torch.device("meta"):
        sizes = {
            name: sum(p.numel() for p in build(recipe).parameters())
            for name, recipe in RECIPES.items()
            if name.startswith(("fashion-vgg", "fashion-resnet"))
        }
    # The published ones less the colours of the first layer and 990 of the 1000 classes.
    assert sizes == {
        "fashion-vgg16": 138_357_544 - 2 * 64 * 9 - 990 * 4097,
        "fashion-resnet34": 21_797_672 - 2 * 64 * 49 - 990 * 513,
    }
