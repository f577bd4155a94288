"""From outputs to a decision, a choice among candidates, and a set of classes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.decision import choose, conformal_set, decide, decide_each
from artifacts.manifest import Manifest
from tests import toy

MANIFEST = toy.manifest()  # uncertain below 0.6, alien above an energy of -0.1


def row(*probabilities: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(probabilities, np.float32)


@pytest.mark.parametrize(
    ("confidence", "energy", "decision"),
    [
        (0.9, -5.0, "accept"),
        (0.6, -5.0, "accept"),
        (0.59, -5.0, "uncertain"),
        (0.9, 0.5, "alien"),
        (0.5, 0.5, "alien"),
        (0.9, -0.1, "accept"),
        (0.5, None, "uncertain"),
        (0.9, None, "accept"),
    ],
)
def test_a_decision_follows_from_confidence_and_energy(
    confidence: float, energy: float | None, decision: str
) -> None:
    assert decide(MANIFEST, confidence, energy) == decision


def test_without_a_threshold_no_energy_is_alien() -> None:
    assert decide(toy.manifest(alien=None), 0.9, 1e9) == "accept"


def test_of_several_candidates_the_lowest_energy_is_chosen() -> None:
    assert choose(np.array([[0.9, 0.1], [0.6, 0.4]], np.float32), row(-1, -3)) == 1


def test_or_the_surest_where_there_is_no_energy() -> None:
    assert choose(np.array([[0.6, 0.4], [0.1, 0.9]], np.float32), None) == 1


def three(quantile: float) -> Manifest:
    names = ("a", "b", "c")
    return toy.manifest(labels={"en": names, "pt": names}, quantiles={"0.9": quantile})


def test_a_set_holds_every_class_within_the_quantile_likeliest_first() -> None:
    assert conformal_set(three(0.75), row(0.3, 0.6, 0.1), 0.90) == [1, 0]
    assert conformal_set(three(1.0), row(0.3, 0.6, 0.1), 0.9) == [1, 0, 2]


def test_a_set_is_never_empty() -> None:
    assert conformal_set(three(0.1), row(0.3, 0.6, 0.1), 0.9) == [1]


def test_a_level_that_was_not_calibrated_has_no_set() -> None:
    for level in (0.8, 0.901):
        with pytest.raises(KeyError):
            conformal_set(three(0.5), row(0.3, 0.6, 0.1), level)


@given(st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3), st.floats(0, 1))
def test_a_set_is_ordered_and_holds_the_likeliest(parts: list[float], quantile: float) -> None:
    probabilities = row(*parts)
    found = conformal_set(three(quantile), probabilities, 0.9)
    assert found[0] == probabilities.argmax()
    assert sorted(found, key=lambda index: -probabilities[index]) == found
    assert len(set(found)) == len(found)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(-50, 50, width=32)), max_size=20),
    st.booleans(),
    st.booleans(),
)
def test_many_rows_are_decided_as_each_of_them(
    rows: list[tuple[float, float]], has_alien: bool, has_energy: bool
) -> None:
    manifest = MANIFEST if has_alien else toy.manifest(alien=None)
    energies = np.array([energy for _, energy in rows], np.float32) if has_energy else None
    confidences = np.array([confidence for confidence, _ in rows], np.float64)
    one_by_one = Counter(
        decide(manifest, confidence, energy if has_energy else None) for confidence, energy in rows
    )
    assert +Counter(decide_each(manifest, confidences, energies)) == one_by_one
