"""Muon for convolution filters: momentum, its matrix made orthogonal, and filters of fixed norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Steps of equal size in every direction of a filter bank's matrix (out x in*3*3).

    After Keller Jordan's https://kellerjordan.github.io/posts/muon/ and airbench94_muon;
    `torch.optim.Muon` refuses parameters of four dimensions.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})
        for group in self.param_groups:
            for filters in group["params"]:
                normalise(filters)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            for filters in group["params"]:
                if filters.grad is None:
                    continue
                state = self.state[filters]
                if "velocity" not in state:
                    state["velocity"] = torch.zeros_like(filters)
                velocity = state["velocity"]
                velocity.mul_(group["momentum"]).add_(filters.grad)
                ahead = filters.grad + group["momentum"] * velocity  # Nesterov
                normalise(filters)
                update = orthogonal(ahead.reshape(len(filters), -1)).view_as(filters)
                filters.add_(update, alpha=-group["lr"])


@torch.no_grad()
def normalise(filters: Tensor) -> None:
    """Each filter of norm 1 on average: the batch normalisation that follows takes no notice."""
    filters.mul_(len(filters) ** 0.5 / filters.norm())


def orthogonal(matrix: Tensor, steps: int = 3) -> Tensor:
    """Roughly the nearest matrix with orthonormal rows, by Newton-Schulz iteration.

    The coefficients are Keller Jordan's: they raise small singular values fastest.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.T if tall else x
    return result
