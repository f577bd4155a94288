"""Comparisons that say what their numbers say, and cards that say what a manifest does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from artifacts.manifest import read as read_manifest
from artifacts.store import RELEASE, Store
from tests.training.small import at_work_in
from training import cards, charts, comparison, evidence
from training.__main__ import main
from training.changes import changes
from training.compare import Row, compare, packed
from training.duel import duel
from training.evidence import Evidence
from training.footprint import Footprint
from training.recipes import RECIPES

NAME, OTHER = "mnist-mlp128-relu-adam", "mnist-mlp256x2"
CARDS = Path(__file__).parents[2] / "docs/cards"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with two seeds of a recipe in it, and its own store."""
    path = tmp_path_factory.mktemp("compare")
    with at_work_in(path) as patch:
        recipe = replace(RECIPES[NAME], min_accuracy=0, epochs=1, split="standard")
        patch.setitem(RECIPES, NAME, recipe)
        for seed in ("0", "1"):
            assert main(["run", NAME, "--seed", seed, "--out", f"runs/{seed}"]) == 0
        yield path


@pytest.fixture(scope="module")
def row(folder: Path) -> Row:
    (only,) = compare(store_in(folder), Evidence(), folder / "data")
    return only


def store_in(folder: Path) -> Store:
    return Store(folder / "state", release=folder / "none")


def test_a_model_is_measured_in_a_process_of_its_own(row: Row) -> None:
    assert min(row.cost.one_ms, row.cost.many_ms) > 0
    assert 20 < row.cost.rss_mb < 1000  # without torch, which this process holds
    assert row.right is not None
    assert row.right.mean() == row.accuracy


def test_seeds_are_gathered_kept_and_told_with_their_spread(folder: Path, row: Row) -> None:
    store = Store(folder / "state", release=folder / "none")
    known = Evidence()
    assert evidence.gather(known, [folder / "runs"], store) == {}
    assert set(known.seeds[NAME]) == {"0", "1"}
    evidence.write(known, folder / "evidence.json")
    known = evidence.read(folder / "evidence.json")
    values = list(known.seeds[NAME].values())
    comparison.write([row], known, folder / "docs/page.md")
    text = (folder / "docs/page.md").read_text(encoding="utf-8")
    assert f"{np.mean(values) * 100:.2f} ± {np.std(values, ddof=1) * 100:.2f}" in text
    assert f"| [`{NAME}`](cards/{NAME}.md) |" in text
    assert f"- `{OTHER}`: not trained yet." in text
    for picture in ("page-digits.png", "page-digits-bars.png"):
        assert (folder / "docs" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_run_with_other_settings_is_no_seed_of_its_recipe(folder: Path, tmp_path: Path) -> None:
    result = json.loads((folder / "runs/0/result.json").read_text())
    result["settings"]["epochs"] = 7
    (tmp_path / "result.json").write_text(json.dumps(result))
    known = Evidence()
    left_out = evidence.gather(known, [tmp_path], Store(folder / "state"))
    assert left_out == {tmp_path: "epochs 7 instead of 1"}
    assert known == Evidence()


def test_a_result_that_says_no_settings_has_those_of_its_version(
    folder: Path, tmp_path: Path
) -> None:
    result = json.loads((folder / "runs/1/result.json").read_text())
    del result["settings"]
    (tmp_path / "result.json").write_text(json.dumps(result))
    known = Evidence()
    assert evidence.gather(known, [tmp_path], Store(folder / "state")) == {}
    assert list(known.seeds[NAME]) == ["1"]
    assert "not in the store" in evidence.gather(known, [tmp_path], Store())[tmp_path]


def test_the_verdict_names_a_faster_model_that_is_as_good(row: Row) -> None:
    quick = Footprint(row.cost.one_ms / 2, row.cost.many_ms, row.cost.rss_mb)
    faster = replace(row, cost=quick, name="faster")
    said = comparison.verdict([row, faster])
    assert "`faster` cannot be told from it by a paired test (McNemar, p at least 1.00)" in said
    assert "`faster` answers 2.0 times as fast" in said
    assert "in less time as: `faster`." in said
    assert comparison.front([row, faster]) == {"faster"}


def test_the_verdict_says_that_the_others_are_worse(row: Row) -> None:
    best = replace(row, name="best", correct=row.count, bits=packed(np.ones(row.count, bool)))
    said = comparison.verdict([best, replace(row, bits=packed(np.zeros(row.count, bool)))])
    assert "Every other makes more errors than chance would explain (paired tests, p at" in said


def test_models_whose_answers_are_not_known_are_told_apart_by_their_intervals(row: Row) -> None:
    best = replace(row, name="best", correct=row.count, interval=(0.98, 1.0))
    near = replace(row, name="near", bits="", interval=(0.97, 0.99))
    far = replace(row, name="far", bits="", interval=(0.5, 0.6))
    assert "`near` cannot be told from it by intervals, where" in comparison.verdict([best, near])
    assert "explain (intervals, where the answers" in comparison.verdict([best, far])


def test_a_model_that_is_not_at_hand_is_on_the_page_as_it_was_measured(
    folder: Path, row: Row
) -> None:
    known = Evidence()
    known.models = {
        OTHER: asdict(replace(row, name=OTHER, measured="2026-01-31")),
        "forgotten": asdict(replace(row, name="forgotten")),
    }
    evidence.write(known, folder / "evidence.json")
    known = evidence.read(folder / "evidence.json")
    rows = compare(store_in(folder), known, folder / "data")
    assert {each.name for each in rows} == set(known.models) == {NAME, OTHER}
    comparison.write(rows, known, folder / "docs/page.md")
    text = (folder / "docs/page.md").read_text(encoding="utf-8")
    assert f"| [`{OTHER}`](cards/{OTHER}.md)† | {row.accuracy * 100:.2f} |" in text
    assert f"| [`{NAME}`](cards/{NAME}.md) |" in text
    assert "†: before, and not at hand on that day" in text


def test_a_model_that_is_elsewhere_is_listed_with_its_figures(
    folder: Path, row: Row, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {name: asdict(replace(row, name=name, correct=150)) for name in (NAME, "fashion-svm")}
    evidence.write(Evidence(models=models), folder / "listed.json")
    assert main(["list", "--evidence", "listed.json"]) == 0
    lines = {line.split()[0]: line.split()[2:4] for line in capsys.readouterr().out.splitlines()}
    assert lines["fashion-svm"] == ["elsewhere", "75.00%"]
    assert lines[NAME] == ["live", f"{row.accuracy:.2%}"]


def test_a_page_can_be_written_again_without_measuring(folder: Path, row: Row) -> None:
    known = Evidence(models={NAME: asdict(replace(row, cost=Footprint(1.0, 2.0, 3.0)))})
    (again,) = compare(store_in(folder), known, folder / "data", only_new=True)
    assert again == replace(row, cost=Footprint(1.0, 2.0, 3.0))
    assert row.right is not None
    known.models[NAME]["version"] = "0123456789ab"  # an older one
    (anew,) = compare(store_in(folder), known, folder / "data", only_new=True)
    assert anew.version == row.version
    assert anew.cost != again.cost


def test_a_model_trained_for_fewer_epochs_than_its_recipe_says_is_called_so(
    row: Row, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert changes(row.settings) == []
    monkeypatch.setitem(RECIPES, NAME, replace(RECIPES[NAME], epochs=5))
    assert changes(row.settings) == ["epochs 1 instead of 5"]
    assert changes({"name": "forgotten"}) == ["by a recipe that is gone"]


def test_two_models_are_compared_by_the_images_they_differ_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = store_in(folder).versions(NAME)
    first, second = (f"{NAME}@{version}" for version in versions)
    assert main(["compare", first, second]) == 0
    assert "McNemar's exact test: p = " in capsys.readouterr().out
    assert main(["compare", NAME, "fashion-mlp"]) == 1
    assert "two models of the same data set" in capsys.readouterr().err
    assert main(["compare", NAME]) == 2


def test_a_duel_is_won_only_by_more_than_chance_explains() -> None:
    good, bad = np.ones(20, bool), np.arange(20) >= 8
    assert duel(("a", "b"), (good, bad)).better == "a"
    assert duel(("b", "a"), (bad, good)).better == "a"
    assert duel(("a", "b"), (good, np.arange(20) >= 2)).better is None


def test_names_in_a_crowd_of_points_do_not_cover_each_other() -> None:
    crowd = [charts.Point(f"model-{k}", 0.98 + k / 10_000, 0.02 + k / 1000, True) for k in range(9)]
    assert charts.trade_off(crowd).startswith(b"\x89PNG")
    assert charts.trade_off([charts.Point("alone", 1.0, 0.1, True)]).startswith(b"\x89PNG")


def test_a_card_says_what_its_manifest_and_the_evidence_say(folder: Path) -> None:
    version = store_in(folder).resolve(NAME)[1]
    manifest = read_manifest(folder / "state/models" / NAME / version)
    found = {"count": 9, "clean": 0.9, "corruptions": {"blur": 0.5}, "auroc": {"noise": 0.75}}
    text = cards.card(manifest, Evidence({NAME: {"0": 0.5, "1": 0.7}}, {version: found}))
    for wanted in (
        *(version, "CC BY-SA 3.0", str(manifest.provenance["split_sha256"])),
        *("Over 2 seeds the mean is 60.00%", "| blur | 50.00% |", "| noise | 0.7500 |"),
        f"vitrine-train run {NAME} --seed 1",
    ):
        assert wanted in text
    for section in ("Data", "Figures", "Confidence", "Limits", "How to make it again"):
        assert f"\n## {section}\n" in text


def test_cards_are_printed_or_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["card", NAME]) == 0
    assert capsys.readouterr().out.startswith(f"# {NAME}\n")
    assert main(["card", NAME, "--out", "cards"]) == 0
    assert (folder / f"cards/{NAME}.md").is_file()
    assert main(["card"]) == 2


def test_every_released_model_has_its_card_and_the_page_names_it() -> None:
    store, known = Store(), evidence.read(CARDS.parent / "evidence.json")
    page = (CARDS.parent / "models.md").read_text(encoding="utf-8")
    for name, live in store.catalog().live.items():
        assert live.version is not None
        manifest = read_manifest(RELEASE / name / live.version)
        assert (CARDS / f"{name}.md").read_text(encoding="utf-8") == cards.card(manifest, known), (
            f"docs/cards/{name}.md is of another version: run `make models-page`"
        )
        assert f"(cards/{name}.md)" in page
        assert known.models[name]["version"] == live.version, (
            f"docs/models.md is of another version of {name}: run `make models-page`"
        )
