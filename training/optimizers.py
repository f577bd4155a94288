"""The optimizers a recipe asks for, and the learning rate at each moment of a run."""

from __future__ import annotations

import torch
from torch import nn

from training.muon import Muon
from training.nets import Network
from training.recipe import Recipe


def optimizers_for(net: Network, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Weight decay on matrices and filters only; Muon on filters only, Nesterov on the rest."""
    learnt = [p for p in net.parameters() if p.requires_grad]
    matrices, vectors = [p for p in learnt if p.ndim > 1], [p for p in learnt if p.ndim <= 1]
    lr, norm_lr, momentum = recipe.peak_lr, recipe.peak_lr, recipe.momentum
    optimizers: list[torch.optim.Optimizer] = []
    if recipe.optimizer == "muon":
        filters = [p for p in matrices if p.ndim == 4]
        matrices = [p for p in matrices if p.ndim != 4]
        optimizers.append(Muon(filters, lr=lr, momentum=0.6))
        lr, norm_lr = recipe.head_lr, recipe.norm_lr
    norms = {id(m.bias) for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": [p for p in vectors if id(p) not in norms], "weight_decay": 0.0},
        {"params": [p for p in vectors if id(p) in norms], "weight_decay": 0.0, "lr": norm_lr},
    ]
    if recipe.optimizer == "adam":
        optimizers.append(torch.optim.Adam(groups, lr=lr))
    else:
        momentum = 0.0 if recipe.optimizer == "sgd" else momentum
        optimizers.append(torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def learning_rate(recipe: Recipe, share: float) -> float:
    """The rate when `share` (0..1) of the run is done."""
    if recipe.schedule == "constant":
        return recipe.peak_lr
    if share < recipe.warmup:
        return recipe.peak_lr * max(share / recipe.warmup, 0.02)
    return recipe.peak_lr * (1 - share) / (1 - recipe.warmup)
