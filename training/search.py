"""A search: trials of a space, each a short training run, judged by the validation images alone."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from training import nets
from training.checkpoint import CHECKPOINT
from training.data import Parts, load
from training.datasets import DATASETS
from training.fit import Device, Run, fit
from training.recipe import BadRecipe, Recipe, settings
from training.spaces import Range, Space, Values, with_values
from training.train import progress

JOURNAL = "journal.jsonl"
# Attributes of a trial, in the journal.
MACS, SECONDS, REFUSED, FOLDER = "macs", "seconds", "refused", "folder"
BEGUN_WITH = "begun_with"  # of the study: what decides its trials


class BadStudy(Exception):
    """A study's folder that cannot be gone on with; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a search is told beside its space."""

    out: Path  # folder of the study
    data: Path | None = None
    device: Device = "auto"
    trials: int | None = None  # in all, those of earlier calls included; None: as the space says
    epochs: int | None = None  # of a trial; None: as the space says
    images: int | None = None  # to train on: the first so many; None: all
    max_macs: int | None = None  # multiply-accumulates of an image; a net with more is not trained
    seed: int = 0  # of what is drawn; the recipe has its own, the same in each trial


def search(space: Space, options: Options) -> optuna.Study:
    """Try until there are enough trials, or no combination is left; returns the whole study.

    What is done is on disk, epoch by epoch: after Ctrl-C or a kill the same call goes on there, and
    ends as if nothing had happened. Raises BadStudy, BadRecipe, BadData.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    base = base_of(space, options)
    with study_in(options.out, space, base, options) as study:
        wanted = options.trials or space.trials or space.size or 1
        wanted = min(wanted, space.size or wanted)
        parts: Parts | None = None
        while (index := len(decided(study))) < wanted:
            parts = parts or parts_for(base, options)
            study.sampler = sampler_for(space, options.seed, index)
            job = Job(space, base, parts, options, title=f"trial {index + 1} of {wanted}")
            study.optimize(job, n_trials=1)
    return study


def base_of(space: Space, options: Options) -> Recipe:
    """The recipe that the trials vary. Raises BadRecipe."""
    base = space.base()
    return replace(base, epochs=options.epochs or base.epochs)


def decided(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end by themselves: measured, pruned or refused."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


@contextmanager
def study_in(out: Path, space: Space, base: Recipe, options: Options) -> Iterator[optuna.Study]:
    """The study in a folder, new or gone on with; nobody else's while this lasts."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / JOURNAL
    with path.open("ab+") as journal:
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadStudy(f"{out}: another search is at work here; wait, or use --out") from error
        mend(path)
        storage = JournalStorage(JournalFileBackend(str(path.resolve())))
        study = optuna.create_study(
            storage=storage,
            study_name=space.name,
            direction="maximize",
            load_if_exists=True,
            sampler=RandomSampler(seed=0),
            pruner=pruner_for(space),
        )
        begun_with = json.loads(json.dumps(described(space, base, options)))
        earlier = study.user_attrs.setdefault(BEGUN_WITH, begun_with)
        if changed := sorted(key for key in begun_with if earlier.get(key) != begun_with[key]):
            raise BadStudy(
                f"{out}: begun with other settings ({', '.join(changed)}); use the same ones, or "
                "another folder with --out"
            )
        study.set_user_attr(BEGUN_WITH, begun_with)
        take_up(study, space)
        yield study


def described(space: Space, base: Recipe, options: Options) -> dict[str, Any]:
    """What decides the trials of a study."""
    return {
        "fields": {path: repr(choices) for path, choices in space.fields.items()},
        "recipe": settings(base),
        "images": options.images,
        "max_macs": options.max_macs,
        "seed": options.seed,
    }


def mend(journal: Path) -> None:
    """Take away what a kill may have left: half a line, and Optuna's lock."""
    content = journal.read_bytes()
    if not content.endswith(b"\n"):
        with journal.open("rb+") as file:
            file.truncate(content.rfind(b"\n") + 1)
    Path(f"{journal.resolve()}.lock").unlink(missing_ok=True)


def take_up(study: optuna.Study, space: Space) -> None:
    """Put the trials that were cut short first in the queue, to go on where they were."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
        last = max(t.number for t in study.trials if folder_of(t) == folder_of(trial))
        system = dict(trial.system_attrs)
        if len(trial.params) == len(space.fields):
            system["fixed_params"] = trial.params
        elif "grid_id" not in system:
            continue  # killed while it was drawn: it will be drawn again
        if trial.number == last:
            study.add_trial(
                create_trial(
                    state=TrialState.WAITING,
                    user_attrs={FOLDER: folder_of(trial)},
                    system_attrs=system,
                )
            )


def folder_of(trial: FrozenTrial | Trial) -> str:
    """Its name, under that of the study: the same for a trial that goes on."""
    return str(trial.user_attrs.get(FOLDER, f"trial-{trial.number + 1:03d}"))


def sampler_for(space: Space, seed: int, index: int) -> BaseSampler:
    """What draws trial `index`: a study that was interrupted draws what it would have drawn."""
    if space.grid is not None:
        return GridSampler({path: [plain(c) for c in cs] for path, cs in space.grid.items()}, seed)
    # Anew for each trial: a generator's state does not outlive the process, its seed does.
    return TPESampler(seed=seed * 100_003 + index)


def pruner_for(space: Space) -> BasePruner:
    """Who is below the median from the second epoch on is given up; a grid is to be complete."""
    return NopPruner() if space.grid else MedianPruner(n_startup_trials=5, n_warmup_steps=2)


@dataclass(frozen=True)
class Job:
    """One trial: draws values, refuses or trains, returns the validation accuracy (0..1)."""

    space: Space
    base: Recipe
    parts: Parts
    options: Options
    title: str

    def __call__(self, trial: Trial) -> float:
        """Raises optuna.TrialPruned for a trial that was given up or refused."""
        values = draw(self.space, trial)
        say(f"{self.title}: {', '.join(f'{path} {value}' for path, value in values.items())}")
        recipe = self.recipe_of(trial, values)
        out = self.options.out / folder_of(trial)
        reported = 0
        start = time.perf_counter()

        def after_epoch(run: Run) -> None:
            nonlocal reported
            while reported < len(run.history):
                line = run.history[reported]
                reported += 1
                trial.report(line["validation_accuracy"], reported)
            accuracy, seconds = line["validation_accuracy"], time.perf_counter() - start
            say(f"  epoch {reported}/{recipe.epochs}: validation {accuracy:.2%}, {seconds:.0f} s")
            if reported < recipe.epochs and trial.should_prune():
                (out / CHECKPOINT).unlink()
                say("  below the median of the trials before: given up")
                raise optuna.TrialPruned

        bar = progress() if sys.stderr.isatty() else lambda _run, _share: None
        run = fit(
            recipe,
            self.parts,
            out,
            device=self.options.device,
            resume=(out / CHECKPOINT).exists(),
            report=bar,
            after_epoch=after_epoch,
        )
        if reported < len(run.history):  # cut short between its last epoch and its end
            after_epoch(run)
        trial.set_user_attr(SECONDS, sum(line["seconds"] for line in run.history))
        (out / CHECKPOINT).unlink()
        return run.history[-1]["validation_accuracy"]

    def recipe_of(self, trial: Trial, values: Values) -> Recipe:
        """Raises optuna.TrialPruned when it cannot work, or is too large."""
        try:
            recipe = with_values(self.base, values)
        except BadRecipe as error:
            raise refuse(trial, str(error)) from error
        with torch.random.fork_rng(devices=[]):
            net = nets.build(recipe)
        shape = DATASETS[recipe.dataset].shape
        channels = shape[2] if len(shape) == 3 else 1
        macs = nets.multiply_accumulates(net, torch.zeros(1, channels, *shape[:2]))
        trial.set_user_attr(MACS, macs)
        if self.options.max_macs is not None and macs > self.options.max_macs:
            raise refuse(trial, f"{macs:,} MACs, at most {self.options.max_macs:,} are wanted")
        return recipe


def refuse(trial: Trial, why: str) -> optuna.TrialPruned:
    """Pruned before it began: the sampler takes it for the worst there is, and keeps away."""
    trial.set_user_attr(REFUSED, why)
    say(f"  refused: {why}")
    return optuna.TrialPruned(why)


def draw(space: Space, trial: Trial) -> Values:
    """A value for each field."""
    for path, choices in space.fields.items():
        if not isinstance(choices, Range):
            trial.suggest_categorical(path, [plain(choice) for choice in choices])
        elif choices.whole:
            trial.suggest_int(path, int(choices.low), int(choices.high), log=choices.log)
        else:
            trial.suggest_float(path, choices.low, choices.high, log=choices.log)
    return values_of(space, trial.params)


def values_of(space: Space, drawn: dict[str, Any]) -> Values:
    """What is tried for what was drawn: a choice for its name, a number with three digits.

    So that the figures of a table are those of the trial, to the last digit.
    """
    values: Values = {}
    for path, choices in space.fields.items():
        if not isinstance(choices, Range):
            values[path] = next(choice for choice in choices if plain(choice) == drawn[path])
        else:
            values[path] = drawn[path] if choices.whole else float(f"{drawn[path]:.3g}")
    return values


def plain(choice: Any) -> str | int | float | bool | None:
    """What the journal can hold for a choice."""
    return choice if choice is None or isinstance(choice, str | int | float) else repr(choice)


def parts_for(base: Recipe, options: Options) -> Parts:
    """The images to train on and to choose by. Raises BadData."""
    parts = load(DATASETS[base.dataset], options.data, base.split)
    if options.images is None:
        return parts
    return replace(parts, train=parts.train.take(np.arange(min(options.images, len(parts.train)))))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
