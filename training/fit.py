"""The one training loop: a recipe and images in, a trained network and its history out."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training import allocator, checkpoint, nets
from training.augment import augment
from training.data import Images, Parts
from training.nets import Network
from training.optimizers import learning_rate, optimizers_for
from training.outliers import outliers
from training.recipe import Recipe

Device = Literal["auto", "cpu", "cuda"]
PREPARED = 10_000  # training images that whitening and standardisation are measured on
OUTLIERS = 5  # images for each made-up one, where a recipe asks for those


@dataclass
class Run:
    """A training run between two epochs: all that its continuation depends on."""

    recipe: Recipe
    net: Network  # as descent left it
    average: Network  # what is validated and exported
    optimizers: list[torch.optim.Optimizer]
    steps: int = 0
    best: dict[str, Any] = field(default_factory=dict)  # epoch, accuracy, state of the average
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        epoch = len(self.history)
        patience = self.recipe.patience
        return epoch >= self.recipe.epochs or bool(patience and epoch - self.best_epoch >= patience)

    @property
    def best_epoch(self) -> int:
        return int(self.best.get("epoch", 0))


def fit(
    recipe: Recipe,
    parts: Parts,
    out: Path,
    *,
    device: Device = "auto",
    resume: bool = False,
    stop_after: int | None = None,
    initial: dict[str, Tensor] | None = None,
    teacher: Network | None = None,
    report: Callable[[Run, float], None] = lambda _run, _share: None,
    after_epoch: Callable[[Run], None] = lambda _run: None,
) -> Run:
    """Train until the recipe's last epoch, or until validation stops improving.

    After each epoch `out` holds a checkpoint and the history; with `resume` training goes on from
    there and ends as if it had never stopped, bit for bit on the same machine. `stop_after` ends
    the call after that many epochs of the run. `initial` are weights to start from. `report` is
    called during the epoch with the share of it that is done, `after_epoch` when its checkpoint is
    written: what that raises ends the call. Raises checkpoint.BadCheckpoint.
    """
    place = device_for(device)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        images, labels = to_tensors(parts.train, place)
        run = begin(recipe, images, initial)
        if resume:
            checkpoint.restore(run, out)
        if teacher is not None:
            settle(teacher, place).eval()
        while not run.finished and len(run.history) != stop_after:
            train_epoch(run, images, labels, teacher, report)
            validate(run, parts.validation)
            checkpoint.save(run, out)
            after_epoch(run)
    if recipe.patience and run.best:
        run.average.load_state_dict(run.best["state"])
    return run


def begin(recipe: Recipe, images: Tensor, initial: dict[str, Tensor] | None = None) -> Run:
    """A run before its first epoch, on the device of `images` (uint8[N, C, H, W])."""
    allocator.keep()
    torch.manual_seed(recipe.seed)
    net = nets.build(recipe)
    with torch.no_grad():
        net.prepare(images[:PREPARED].cpu().float() / 255)
    if initial is not None:
        net.load(initial)
    settle(net, images.device)
    optimizers = optimizers_for(net, recipe)
    return Run(recipe, net, copy.deepcopy(net).eval(), optimizers)


def settle(net: Network, place: torch.device) -> Network:
    """The network on the device, its filters laid out as they are fastest there."""
    net.to(place)
    if net.channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def train_epoch(
    run: Run,
    images: Tensor,
    labels: Tensor,
    teacher: Network | None,
    report: Callable[[Run, float], None],
) -> None:
    """One pass over the training images; appends to the history.

    All randomness comes from the seed and the epoch's number, so a resumed run draws the same.
    """
    recipe, epoch, start = run.recipe, len(run.history), time.perf_counter()
    torch.manual_seed(recipe.seed * 100_003 + epoch)  # dropout
    generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(len(labels), generator=generator)
    batches = list(torch.split(order, recipe.batch_size))
    if len(batches) > 1 and len(batches[-1]) < recipe.batch_size // 2:
        batches.pop()  # too few images for batch statistics; another epoch has them elsewhere
    autocast = precision_for(recipe, images.device)
    low = torch.autocast(images.device.type, torch.bfloat16, enabled=autocast)
    losses = torch.zeros((), device=images.device)
    right = torch.zeros((), device=images.device)
    run.net.train()
    for done, rows in enumerate(batches):
        lr = learning_rate(recipe, (epoch + done / len(batches)) / recipe.epochs)
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * lr / recipe.peak_lr
        batch = images[rows.to(images.device)].float() / 255
        batch = augment(batch, rows, recipe.augment, epoch, generator)
        if run.net.channels_last:
            batch = batch.contiguous(memory_format=torch.channels_last)
        wanted = labels[rows.to(labels.device)]
        strange = outliers(batch[::OUTLIERS], generator) if recipe.outliers else batch[:0]
        with low:
            answers = run.net(torch.cat([batch, strange]) if len(strange) else batch).float()
            logits, doubts = answers[: len(batch)], answers[len(batch) :]
            loss = loss_of(logits, wanted, recipe)
            if teacher is not None:
                with torch.no_grad():
                    taught = teacher(batch).float()
                loss = (loss + distillation(logits, taught)) / 2
            if len(doubts):
                loss = loss + recipe.outliers * doubts.square().mean()
        for optimizer in run.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        with low:  # Muon's products too
            for optimizer in run.optimizers:
                optimizer.step()
        run.steps += 1
        follow(run)
        losses += loss.detach()
        right += (logits.detach().argmax(1) == wanted).float().mean()
        report(run, (done + 1) / len(batches))
    run.history.append(
        {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": losses.item() / len(batches),
            "train_accuracy": right.item() / len(batches),  # on augmented images, in training mode
            "seconds": time.perf_counter() - start,
        }
    )


def validate(run: Run, images: Images) -> None:
    """Add the averaged network's loss and accuracy to the epoch's history; keep the best."""
    if not len(images):
        return
    logits = torch.from_numpy(logits_of(run.average, images))
    labels = torch.from_numpy(images.labels.copy()).long()
    accuracy = (logits.argmax(1) == labels).double().mean().item()
    run.history[-1]["validation_loss"] = F.cross_entropy(logits, labels).item()
    run.history[-1]["validation_accuracy"] = accuracy
    if accuracy > run.best.get("accuracy", -1):
        state = {name: value.clone() for name, value in run.average.state_dict().items()}
        run.best = {"epoch": len(run.history), "accuracy": accuracy, "state": state}


def follow(run: Run) -> None:
    """Move the average a step towards the network; without `ema` the average is the network."""
    # A young average forgets its start: the untrained network is no part of the answer.
    decay = min(run.recipe.ema, run.steps / (run.steps + 10))
    with torch.no_grad():
        ours, theirs = run.average.state_dict().values(), run.net.state_dict().values()
        for mine, other in zip(ours, theirs, strict=True):
            if mine.is_floating_point():
                mine.lerp_(other, 1 - decay)
            else:
                mine.copy_(other)


def loss_of(logits: Tensor, labels: Tensor, recipe: Recipe) -> Tensor:
    if recipe.loss == "mse":
        return F.mse_loss(logits.sigmoid(), F.one_hot(labels, logits.shape[1]).float())
    return F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)


def distillation(logits: Tensor, answers: Tensor, temperature: float = 2.0) -> Tensor:
    """How far the softened answers are from a teacher's (Hinton, Vinyals and Dean, 2015)."""
    ours = F.log_softmax(logits / temperature, dim=1)
    theirs = F.log_softmax(answers / temperature, dim=1)
    return F.kl_div(ours, theirs, reduction="batchmean", log_target=True) * temperature**2


def logits_of(net: Network, images: Images) -> NDArray[np.float32]:
    """float32[N, K], in full precision and evaluation mode."""
    place = next(net.parameters()).device
    net.eval()
    answers = []
    with torch.no_grad():
        for start in range(0, len(images), net.batch):
            part = slice(start, start + net.batch)
            batch, _ = to_tensors(Images(images.pixels[part], images.labels[part]), place)
            answers.append(net(batch.float() / 255).cpu())
    return torch.cat(answers).numpy()


def to_tensors(images: Images, place: torch.device) -> tuple[Tensor, Tensor]:
    """uint8[N, C, H, W] and int64[N] on the device."""
    # A copy, since torch warns of arrays that are views of a file's read-only bytes.
    pixels = torch.from_numpy(images.pixels.copy())
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels.to(place), torch.from_numpy(images.labels.copy()).long().to(place)


def device_for(wanted: Device) -> torch.device:
    """Raises ValueError when CUDA is asked for and absent."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, but torch finds no GPU; use auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def precision_for(recipe: Recipe, place: torch.device) -> bool:
    """Whether bfloat16 is wanted and is fast here."""
    if recipe.precision != "bf16":
        return False
    if place.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    fast: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return fast
