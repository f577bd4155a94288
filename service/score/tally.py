"""How right the rows are, where the truth is known: counted in one pass over a finished output."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from artifacts.interval import wilson

MISTAKES = 60  # kept, the most confident
BINS = 10  # of confidence


class Mistake(NamedTuple):
    """An image that was called something else than it is. Sorts by confidence."""

    confidence: float
    path: str
    truth: str
    label: str
    decision: str


class PerClass(NamedTuple):
    """The usual figures of one class, 0..1; None where there is nothing to divide by."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass
class Tally:
    """Counts over rows. `confusion[true][predicted]` is of those with a truth and an answer."""

    classes: tuple[str, ...]
    rows: int = 0
    failed: int = 0
    unknown: int = 0  # answered, but without a known truth
    confusion: list[list[int]] = field(default_factory=list)
    decisions: dict[str, list[int]] = field(default_factory=dict)  # -> [labelled, right]
    bins: list[list[float]] = field(default_factory=list)  # [labelled, right, sum of confidence]
    mistakes: list[Mistake] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)  # reason -> how many, the first 50

    @property
    def labelled(self) -> int:
        return sum(map(sum, self.confusion))

    @property
    def right(self) -> int:
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.right, self.labelled)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: how far confidence is from accuracy, over ten bins."""
        labelled = max(self.labelled, 1)
        return sum(abs(total - right) for _, right, total in self.bins) / labelled

    def per_class(self) -> list[PerClass]:
        """Precision, recall and F1 of each class."""
        figures = []
        for index, label in enumerate(self.classes):
            hit = self.confusion[index][index]
            support = sum(self.confusion[index])
            called = sum(row[index] for row in self.confusion)
            precision = hit / called if called else None
            recall = hit / support if support else None
            f1 = 2 * hit / (support + called) if support + called else None
            figures.append(PerClass(label, precision, recall, f1, support))
        return figures


def tally(rows: Iterable[dict[str, Any]], classes: tuple[str, ...]) -> Tally:
    """Count `rows` as `service.score.rows.read` gives them."""
    count = len(classes)
    number = {label: index for index, label in enumerate(classes)}
    found = Tally(
        classes,
        confusion=[[0] * count for _ in range(count)],
        decisions={name: [0, 0] for name in ("accept", "uncertain", "alien")},
        bins=[[0, 0, 0.0] for _ in range(BINS)],
    )
    worst: list[Mistake] = []
    for row in rows:
        found.rows += 1
        if row["error"] is not None:
            found.failed += 1
            if row["error"] in found.errors or len(found.errors) < 50:
                found.errors[row["error"]] = found.errors.get(row["error"], 0) + 1
            continue
        truth = number.get(row.get("truth") or "")
        if truth is None:
            found.unknown += 1
            continue
        index, confidence = int(row["index"]), float(row["confidence"])
        is_right = int(index == truth)
        found.confusion[truth][index] += 1
        counts = found.decisions[row["decision"]]
        counts[0] += 1
        counts[1] += is_right
        bin_ = found.bins[min(int(confidence * BINS), BINS - 1)]
        bin_[0] += 1
        bin_[1] += is_right
        bin_[2] += confidence
        if not is_right:
            mistake = Mistake(
                confidence, row["path"], classes[truth], classes[index], row["decision"]
            )
            push = heapq.heappush if len(worst) < MISTAKES else heapq.heappushpop
            push(worst, mistake)
    found.mistakes = sorted(worst, key=lambda m: (-m.confidence, m.path))
    return found


def text(found: Tally) -> str:
    """The tally for a terminal."""
    low, high = found.interval
    lines = [f"{found.labelled:,} images with a known class, {found.unknown:,} without"]
    if found.failed:
        lines.append(f"{found.failed:,} without an answer:")
        common = sorted(found.errors.items(), key=lambda item: (-item[1], item[0]))
        lines += [f"  {count:>7,}  {error}" for error, count in common[:10]]
    if not found.labelled:
        return "\n".join([*lines, "no image has a class that the model knows; check --labels"])
    accuracy = found.right / found.labelled
    lines.append(f"accuracy {accuracy:.2%} (95 %: {low:.2%} to {high:.2%})")
    lines += ["", f"{'decision':<12}{'images':>9}{'accuracy':>10}"]
    for name, (labelled, right) in found.decisions.items():
        lines.append(
            f"{name:<12}{labelled:>9,}{percent(right / labelled if labelled else None):>10}"
        )
    wide = max(12, *(len(label) + 2 for label in found.classes))
    lines += ["", f"{'class':<{wide}}{'precision':>10}{'recall':>10}{'F1':>10}{'images':>9}"]
    for label, precision, recall, f1, support in found.per_class():
        figures = "".join(f"{percent(value):>10}" for value in (precision, recall, f1))
        lines.append(f"{label:<{wide}}{figures}{support:>9,}")
    if len(found.classes) <= 20:
        cell = max(6, *(len(f"{n:,}") + 1 for row in found.confusion for n in row))
        lines += ["", "confusion (rows: truth, columns: answer, by index)"]
        lines.append(" " * wide + "".join(f"{i:>{cell}}" for i in range(len(found.classes))))
        for label, row in zip(found.classes, found.confusion, strict=True):
            lines.append(f"{label:<{wide}}" + "".join(f"{n or '.':>{cell}}" for n in row))
    if found.mistakes:
        lines += ["", "most confident mistakes"]
        for m in found.mistakes[:10]:
            lines.append(f"  {m.confidence:.4f}  {m.truth} taken for {m.label}  {m.path}")
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """A share for people; a dash for none."""
    return "-" if share is None else f"{share:.2%}"
