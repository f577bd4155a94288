"""Search spaces: a recipe to begin with, and what may be tried for some of its fields."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass, replace
from math import prod
from typing import Any

from training.recipe import BadRecipe, Estimator, Recipe
from training.recipes import recipe_named

Values = dict[str, Any]  # a value for each field of a space


@dataclass(frozen=True, kw_only=True)
class Range:
    """Any number from `low` to `high`: a whole one when both are whole."""

    low: float
    high: float
    log: bool = False  # whether equal factors, not equal steps, are equally likely

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self} is empty, or reaches 0 on a logarithmic scale")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


Choices = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Space:
    """What a search tries. Only choices, and it is a grid: each combination is tried once."""

    name: str
    summary: str
    recipe: str  # the one it begins with
    fields: dict[str, Choices | Range]  # by path: `peak_lr`, `net.kernel`
    epochs: int | None = None  # of a trial; None: as many as the recipe's
    trials: int = 0  # unless the command says otherwise; 0: all of a grid

    @property
    def grid(self) -> dict[str, Choices] | None:
        """The choices, when there is nothing else."""
        choices = {path: c for path, c in self.fields.items() if not isinstance(c, Range)}
        return choices if len(choices) == len(self.fields) else None

    @property
    def size(self) -> int | None:
        """How many combinations there are, in a grid."""
        return None if self.grid is None else prod(map(len, self.grid.values()))

    def base(self) -> Recipe:
        """The recipe that the fields are put into. Raises BadRecipe.

        Trained on the standard split, whatever the recipe does: a validation part is what a search
        needs. Without the recipe's teacher, which may have been trained on that part.
        """
        recipe = recipe_named(self.recipe)
        if isinstance(recipe.net, Estimator):
            raise BadRecipe(f"search {self.name}: {recipe.name} has no epochs, so nothing to prune")
        return replace(
            recipe, split="standard", teacher="", epochs=self.epochs or recipe.epochs, patience=0
        )


def with_values(recipe: Recipe, values: Values) -> Recipe:
    """The recipe with other values in some fields. Raises BadRecipe, as a value or path may."""
    for path, value in values.items():
        recipe = _with(recipe, path, value, recipe.name)
    return recipe


def _with(record: Any, path: str, value: Any, name: str) -> Any:
    head, _, rest = path.partition(".")
    if not is_dataclass(record) or not hasattr(record, head):
        raise BadRecipe(f"recipe {name}: a {type(record).__name__} has no field {head}")
    inner = _with(getattr(record, head), rest, value, name) if rest else value
    return replace(record, **{head: inner})  # type: ignore[type-var]


_LENET = Space(
    name="cifar10-lenet",
    summary="Rate and size of filter, each combination: the grid behind cifar10-lenet.",
    recipe="cifar10-lenet",
    fields={"peak_lr": (0.01, 0.001), "net.kernel": (3, 5, 6)},
)

SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        _LENET,
        replace(
            _LENET,
            name="cifar10-lenet3",
            summary="The same with a third convolution, for which two sizes are too large.",
            recipe="cifar10-lenet3",
        ),
        Space(
            name="fashion-cnn",
            summary="What moves and restrains an airbench net, and how garments are varied.",
            recipe="fashion-cnn",
            fields={
                "peak_lr": Range(low=0.01, high=0.2, log=True),
                "weight_decay": Range(low=1e-5, high=1e-2, log=True),
                "ema": (0.0, 0.98, 0.99, 0.995),
                "augment.shift": Range(low=0, high=3),
                "augment.cutout": Range(low=0, high=14),
            },
            epochs=6,
            trials=24,
        ),
        Space(
            name="cifar10-tiny",
            summary="The same for objects, and the widths; of use with --max-macs.",
            recipe="cifar10-tiny",
            fields={
                "net.widths": ((32, 64, 128), (32, 96, 128), (32, 128, 160), (64, 128, 160)),
                "peak_lr": Range(low=0.02, high=0.4, log=True),
                "weight_decay": Range(low=1e-5, high=1e-2, log=True),
                "ema": (0.0, 0.98, 0.99, 0.995),
                "augment.shift": Range(low=0, high=4),
                "augment.cutout": Range(low=0, high=14),
            },
            epochs=6,
            trials=24,
        ),
    )
}


def space_named(name: str) -> Space:
    """Raises BadRecipe when there is none."""
    if name not in SPACES:
        raise BadRecipe(f"no search is called {name!r}; there are {', '.join(SPACES)}")
    return SPACES[name]
