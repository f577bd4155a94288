"""What a search found: the table of its trials, the winner as a recipe, pictures."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from artifacts.interval import wilson
from training.datasets import DATASETS
from training.figures import RIGHT, WRONG, png
from training.recipe import Recipe
from training.search import MACS, REFUSED, SECONDS, decided, folder_of, values_of
from training.spaces import Range, Space, with_values

PAGE = "study.md"
GIVEN_UP = "#999999"
PLATE = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round"}  # under a text
MEASURED = 4  # trials that importance needs at least, to be more than a guess


def write(study: optuna.Study, space: Space, base: Recipe, out: Path) -> str:
    """study.md and its pictures in `out`; returns the text."""
    pictures = {"history": history(study), "fields": by_field(study, space)}
    if space.grid is not None and len(space.grid) == 2:
        pictures["fields"] = crossed(study, space)
    if (shares := importance(study)) is not None:
        pictures["importance"] = shares
    for name, content in pictures.items():
        (out / f"{name}.png").write_bytes(content)
    text = "\n".join(
        [
            f"# Search {space.name}",
            "",
            headline(study, base),
            "",
            *table(study, space),
            "",
            *adoption(study, space, base),
        ]
    )
    shown = "".join(f"\n![{name.capitalize()}]({name}.png)\n" for name in pictures)
    (out / PAGE).write_text(f"{text}\n{shown}")
    return text


def headline(study: optuna.Study, base: Recipe) -> str:
    trials = decided(study)
    refused = sum(REFUSED in trial.user_attrs for trial in trials)
    pruned = sum(trial.state == TrialState.PRUNED for trial in trials) - refused
    measured = len(trials) - refused - pruned
    images = DATASETS[base.dataset].validation
    return (
        f"{len(trials)} trials of {base.name}, {base.epochs} epochs each: {measured} measured, "
        f"{pruned} given up on the way, {refused} refused. Accuracy is of the {images:,} "
        "validation images after the last epoch; no test image was looked at."
    )


def table(study: optuna.Study, space: Space) -> list[str]:
    """Every trial, best first, as lines of Markdown."""
    head = ["trial", "validation, %", "epochs", *space.fields, "MMAC", "s", ""]
    rows = [head, ["---"] * len(head)]
    for trial in ranked(study):
        reached = accuracy_of(trial)
        values = values_of(space, trial.params)
        rows.append(
            [
                folder_of(trial),
                "" if reached is None else f"{reached * 100:.2f}",
                str(len(trial.intermediate_values) or ""),
                *(str(values[path]) for path in space.fields),
                f"{trial.user_attrs[MACS] / 1e6:.2f}" if MACS in trial.user_attrs else "",
                f"{trial.user_attrs[SECONDS]:.0f}" if SECONDS in trial.user_attrs else "",
                remark(trial),
            ]
        )
    return [f"| {' | '.join(row)} |" for row in rows]


def remark(trial: FrozenTrial) -> str:
    if REFUSED in trial.user_attrs:
        return f"refused: {trial.user_attrs[REFUSED]}"
    return "given up" if trial.state == TrialState.PRUNED else ""


def adoption(study: optuna.Study, space: Space, base: Recipe) -> list[str]:
    """What to write into the recipe to have the best trial's values, and the command after it."""
    best = winner(study)
    if best is None:
        return ["No trial was measured to its end."]
    recipe = with_values(base, values_of(space, best.params))
    images = DATASETS[base.dataset].validation
    low, high = wilson(round((accuracy_of(best) or 0) * images), images)
    changed = sorted({path.partition(".")[0] for path in space.fields})
    if all(getattr(recipe, name) == getattr(base, name) for name in changed):
        change = f"The recipe {base.name} has its values already:"
    else:
        change = f"Its values, to be written into the recipe {base.name}:"
    return [
        (
            f"The best is {folder_of(best)}; the 95 % interval of its accuracy is {low:.1%} to "
            f"{high:.1%}, so trials within it may be as good. {change}"
        ),
        "",
        *(f"    {name}={source(getattr(recipe, name))}," for name in changed),
        "",
        f"    vitrine-train run {base.name}",
    ]


def source(value: Any) -> str:
    """Python that makes `value`; fields of a dataclass that have their default left out."""
    if not is_dataclass(value):
        return repr(value)
    said = (
        f"{field.name}={source(getattr(value, field.name))}"
        for field in fields(value)
        if field.default is MISSING or getattr(value, field.name) != field.default
    )
    return f"{type(value).__name__}({', '.join(said)})"


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Measured trials by accuracy, then those given up, then the refused."""

    def key(trial: FrozenTrial) -> tuple[int, float]:
        stage = 2 if REFUSED in trial.user_attrs else int(trial.state == TrialState.PRUNED)
        return stage, -(accuracy_of(trial) or 0.0)

    return sorted(decided(study), key=key)


def winner(study: optuna.Study) -> FrozenTrial | None:
    best = next(iter(ranked(study)), None)
    return best if best is not None and best.state == TrialState.COMPLETE else None


def accuracy_of(trial: FrozenTrial) -> float | None:
    """Of the validation images, 0..1, after the trial's last epoch; None when it had none."""
    last = trial.last_step
    return None if last is None else trial.intermediate_values[last]


def history(study: optuna.Study) -> bytes:
    """Accuracy trial by trial, and the best so far."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    trials = decided(study)
    best, line = float("nan"), []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            best = max(trial.value, best) if best == best else trial.value
        line.append(best * 100)
    axis.step(
        range(1, len(trials) + 1), line, where="post", color=RIGHT, alpha=0.5, label="best so far"
    )
    scatter(axis, list(enumerate(trials, start=1)))
    axis.set(xlabel="trial", ylabel="validation accuracy, %")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    return png(figure)


def scatter(axis: Axes, points: list[tuple[Any, FrozenTrial]]) -> None:
    """Each trial at its x: measured, given up, or (on the floor) refused."""
    kinds: dict[str, tuple[str, str, list[tuple[Any, float]]]] = {
        "measured": ("o", RIGHT, []),
        "given up": ("o", GIVEN_UP, []),
        "refused": ("x", WRONG, []),
    }
    reached = [a for _, trial in points if (a := accuracy_of(trial)) is not None]
    for x, trial in points:
        kind = "measured" if trial.state == TrialState.COMPLETE else "given up"
        kind = "refused" if REFUSED in trial.user_attrs else kind
        accuracy = accuracy_of(trial)
        floor = min(reached, default=0.0)
        kinds[kind][2].append((x, (floor if accuracy is None else accuracy) * 100))
    for label, (marker, colour, pairs) in kinds.items():
        if pairs:
            xs, ys = zip(*pairs, strict=True)
            axis.plot(xs, ys, marker, color=colour, label=label)


def by_field(study: optuna.Study, space: Space) -> bytes:
    """Accuracy against the values of each field, all others mixed."""
    columns = min(3, len(space.fields))
    rows = -(-len(space.fields) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    trials = [trial for trial in decided(study) if REFUSED not in trial.user_attrs]
    for axis, (path, choices) in zip(axes.flat, space.fields.items(), strict=False):
        values = [values_of(space, trial.params)[path] for trial in trials]
        if isinstance(choices, Range):
            if choices.log:
                logarithmic(axis, choices)
        else:
            axis.set_xticks(range(len(choices)), [short(choice) for choice in choices])
            axis.set_xlim(-0.5, len(choices) - 0.5)
            values = [choices.index(value) for value in values]
        scatter(axis, list(zip(values, trials, strict=True)))
        axis.set_xlabel(path)
    for axis in axes.flat[len(space.fields) :]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel("validation accuracy, %")
    return png(figure)


def crossed(study: optuna.Study, space: Space) -> bytes:
    """A grid of two fields as a map: each combination's accuracy, or that it was refused."""
    (down, rows), (across, columns) = (space.grid or {}).items()
    shares = np.full((len(rows), len(columns)), np.nan)
    figure = Figure(figsize=(1.3 * len(columns) + 2.2, 0.9 * len(rows) + 1.2), layout="constrained")
    axis = figure.subplots()
    for trial in decided(study):
        values = values_of(space, trial.params)
        row, column = rows.index(values[down]), columns.index(values[across])
        accuracy = accuracy_of(trial)
        shares[row, column] = np.nan if accuracy is None else accuracy
        text = "refused" if accuracy is None else f"{accuracy * 100:.1f}"
        axis.text(column, row, text, ha="center", va="center", bbox=PLATE)
    axis.imshow(shares, cmap="Blues", aspect="auto")
    axis.set_xticks(range(len(columns)), [short(choice) for choice in columns])
    axis.set_yticks(range(len(rows)), [short(choice) for choice in rows])
    axis.set(xlabel=across, ylabel=down, title="validation accuracy, %")
    return png(figure)


def logarithmic(axis: Axes, choices: Range) -> None:
    """Few enough round numbers on the axis to be read."""
    axis.set_xscale("log")
    axis.set_xlim(choices.low / 1.2, choices.high * 1.2)
    narrow = choices.high / choices.low < 100
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())


def short(choice: Any) -> str:
    """A choice on an axis: widths as 32-96-128."""
    return "-".join(map(str, choice)) if isinstance(choice, tuple) else str(choice)


def importance(study: optuna.Study) -> bytes | None:
    """The share of the trials' differences that each field explains; None when there are few."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < MEASURED or len({trial.value for trial in complete}) == 1:
        return None
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    figure = Figure(figsize=(7, 0.5 * len(shares) + 1), layout="constrained")
    axis = figure.subplots()
    names = list(shares)[::-1]
    bars = axis.barh(names, [shares[name] for name in names], color=RIGHT)
    axis.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=4)
    axis.set(xlabel="share of the variance between measured trials (fANOVA)", xlim=(0, 1.1))
    axis.spines[["top", "right"]].set_visible(False)
    return png(figure)
