"""Model cards: what a version is, what it is good for and how to make it again, as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.manifest import Manifest, Threshold
from training.datasets import DATASETS
from training.evidence import Evidence
from training.recipe import BadRecipe, Estimator, from_settings

# What a model of each task has never been shown, and what therefore cannot be asked of it.
LIMITS = {
    "digits": (
        "It knows the ten digits and nothing else: letters, signs and empty paper get a digit too.",
        "One digit to an image. Numbers of several digits are not read.",
        "Employees of the American census and pupils wrote the training images, before 1998.",
        "Hands that write 1, 4, 7 or 9 otherwise are read less well.",
        "Not for decisions about people or money, unless somebody looks at what is `uncertain`.",
    ),
    "fashion": (
        "It knows ten kinds of garment: one shop's photographs of 2017 or before, 28 x 28 pixels.",
        "Each was photographed alone: worn clothes and crowded pictures are not what it learnt.",
        "Shirts, T-shirts, pullovers and coats look much alike at this size.",
        "Not a judge of quality, brand, fit or wearer.",
    ),
    "objects": (
        "It knows ten kinds of thing in 32 x 32 pixels, the thing filling the picture.",
        "Whatever else is in a photograph gets one of the ten names.",
        "The images were gathered from the web before 2009; nobody weighed what is missing.",
        "Not for anything where a wrong name does harm.",
    ),
}
STRANGERS = {
    True: "What is unlike the training images is marked `alien` for the most part, not always.",
    False: "It has no energy, and so cannot tell what is unlike its training images.",
}


def card(manifest: Manifest, evidence: Evidence) -> str:
    """The card of one version, from its manifest and what else is known of it."""
    sections = (
        ("", summary(manifest)),
        ("Data", data(manifest)),
        ("Figures", figures(manifest, evidence)),
        ("Classes", classes(manifest)),
        ("Confidence", confidence(manifest)),
        ("Robustness", robustness(evidence.robustness.get(manifest.version))),
        ("Limits", limits(manifest)),
        ("How it was trained", training(manifest)),
        ("How to make it again", again(manifest)),
    )
    parts = [f"# {manifest.name}\n"]
    parts += [f"## {title}\n\n{text}\n" if title else f"{text}\n" for title, text in sections]
    return "\n".join(parts)


def write(manifest: Manifest, evidence: Evidence, folder: Path) -> Path:
    """The card as `folder`/MODEL.md."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{manifest.name}.md"
    path.write_text(card(manifest, evidence), encoding="utf-8")
    return path


def summary(manifest: Manifest) -> str:
    settings = manifest.provenance.get("settings", {})
    side = " x ".join(str(size) for size in manifest.input.shape)
    return (
        f"{settings.get('summary', '')} Version `{manifest.version}`, made "
        f"{manifest.created[:10]}; task `{manifest.task}`, {len(manifest.classes)} classes. It "
        f"reads uint8 images of {side} and has {manifest.parameters:,} parameters; an image takes "
        f"{manifest.macs / 1e6:,.2f} million multiply-accumulates."
    ).strip()


def data(manifest: Manifest) -> str:
    facts = manifest.provenance
    dataset = DATASETS.get(str(facts.get("dataset", "")))
    title = dataset.title if dataset else facts.get("dataset", "unknown")
    lines = [
        f"- {title}; licence: {facts.get('data_licence', 'unknown')}",
        f"- files, SHA-256 over their digests: `{facts.get('data_sha256', '')}`",
        f"- split `{facts.get('split')}`, SHA-256 of its indices: `{facts.get('split_sha256')}`",
    ]
    if extra := facts.get("extra"):
        lines.append(f"- {extra['count']:,} further images, SHA-256 `{extra['sha256']}`")
    if facts.get("split", "").startswith("author"):
        lines.append(
            "- trained on all the images its author trained on; confidences were calibrated with "
            "a second network that was not"
        )
    return "\n".join(lines)


def figures(manifest: Manifest, evidence: Evidence) -> str:
    test = manifest.test
    low, high = test["interval"]
    lines = [
        f"Of {test['count']:,} test images {test['correct']:,} are right:",
        f"**{test['accuracy']:.2%}** ({low:.2%} to {high:.2%}, 95 % Wilson interval),",
        f"{test['count'] - test['correct']:,} errors. Measured through the code that serves.",
    ]
    if spread := evidence.spread(manifest.name):
        lines.append(
            f"Over {spread.count} seeds the mean is {spread.mean:.2%}, the standard deviation "
            f"{spread.deviation * 100:.2f} points."
        )
    reported = manifest.provenance.get("settings", {}).get("reported")
    if reported:
        away = (test["accuracy"] - reported) * 100
        lines.append(
            f"The experiment it reproduces reported {reported:.1%}: {away:+.2f} points here."
        )
    return " ".join(lines)


def classes(manifest: Manifest) -> str:
    lines = ["| class | Portuguese | precision | recall | F1 | images |", "|" + " --- |" * 6]
    for entry, portuguese in zip(manifest.test["classes"], manifest.labels["pt"], strict=True):
        cells = (f"{entry[key]:.4f}" for key in ("precision", "recall", "f1"))
        cell = " | ".join((entry["label"], portuguese, *cells, f"{entry['support']:,}"))
        lines.append(f"| {cell} |")
    worst = min(manifest.test["classes"], key=lambda entry: float(entry["f1"]))
    return "\n".join(lines) + f"\n\nThe worst by F1: {worst['label']}, {worst['f1']:.4f}."


def confidence(manifest: Manifest) -> str:
    test = manifest.test
    lines = [
        f"- on the test images: calibration error (ECE) {test['ece']:.4f}, NLL {test['nll']:.4f}",
        told_threshold("uncertain", "below a probability", manifest.uncertain),
    ]
    if manifest.alien:
        lines.append(told_threshold("alien", "above an energy", manifest.alien))
    else:
        lines.append("- no energy, and so nothing is ever called `alien`")
    if manifest.quantiles:
        levels = ", ".join(f"{float(level):.0%}" for level in sorted(manifest.quantiles))
        lines.append(f"- conformal sets on request at {levels}")
    return "\n".join(lines)


def told_threshold(decision: str, where: str, threshold: Threshold) -> str:
    return (
        f"- `{decision}` {where} of {threshold.value:.4f}: {threshold.rate:.1%} of the validation "
        "images"
    )


def robustness(found: dict[str, Any] | None) -> str:
    """What `training.robustness` found."""
    if found is None:
        return "Not measured for this version: `vitrine-train card --robustness N` does."
    text = (
        f"On {found['count']:,} test images, placed as the service places them: "
        f"{found['clean']:.2%} as they are."
    )
    if style := found.get("mnist_c_style"):
        text += (
            f" Under our own corruptions in the style of MNIST-C {style['mean']:.2%} on average, "
            f"{style['worst']:.2%} at worst."
        )
    lines = [text, "", "| corrupted by | accuracy |", "| --- | --- |"]
    worst_first = sorted(found["corruptions"].items(), key=lambda entry: float(entry[1]))
    lines += [f"| {name} | {accuracy:.2%} |" for name, accuracy in worst_first]
    for key, what, figure, form in (
        ("auroc", "strangers, told apart by the energy", "AUROC", ".4f"),
        ("other_digits", "digits from another source", "accuracy", ".2%"),
    ):
        if values := found.get(key):
            lines += ["", f"| {what} | {figure} |", "| --- | --- |"]
            lines += [f"| {name} | {value:{form}} |" for name, value in values.items()]
    if inverted := found.get("false_inversions"):
        lines += ["", f"Taken for inverted: {inverted['count']:,} of {inverted['of']:,}."]
    return "\n".join(lines)


def limits(manifest: Manifest) -> str:
    lines = (*LIMITS.get(manifest.task, ()), STRANGERS[manifest.alien is not None])
    return "\n".join(f"- {line}" for line in lines)


def training(manifest: Manifest) -> str:
    facts = manifest.provenance
    libraries = ", ".join(f"{name} {found}" for name, found in facts.get("libraries", {}).items())
    lines = [
        f"- recipe `{facts.get('recipe', '')}`, seed {facts.get('seed', '')}",
        f"- {facts.get('duration_s', 0):,.0f} s on {facts.get('machine', 'an unknown machine')}",
    ]
    if "peak_rss_mb" in facts:
        gpu = f", {facts['peak_gpu_mb']:,} MB of the GPU's" if facts.get("peak_gpu_mb") else ""
        lines.append(f"- at most {facts['peak_rss_mb']:,} MB of memory{gpu}")
    lines += [
        f"- Python {facts.get('python', '')}, {libraries}",
        f"- commit `{facts.get('commit') or 'unknown'}`",
    ]
    if facts.get("init_from"):
        lines.append(f"- started from `{facts['init_from']}`")
    if facts.get("teacher"):
        lines.append(f"- learnt from `{facts['teacher']}` beside the labels")
    return "\n".join(lines) + "\n\n" + told(facts.get("settings", {}))


def told(settings: dict[str, Any]) -> str:
    """The settings that matter, as a table; those of scikit-learn are its net's alone."""
    try:
        classical = isinstance(from_settings(settings).net, Estimator)
    except BadRecipe:
        classical = False
    beside = ("name", "summary", "note", "min_accuracy", "reported", "seed", "dataset", "split")
    lines = ["| setting | value |", "| --- | --- |"]
    for key, value in settings.items():
        if key in beside or (classical and key != "net"):
            continue
        if isinstance(value, dict):
            inner = (f"{k} {v}" for k, v in value.items() if k != "type" and v not in (0, None))
            value = " ".join((str(value["type"]), ", ".join(inner)))
        lines.append(f"| {key} | {value if value not in ('', None) else 'none'} |")
    return "\n".join(lines)


def again(manifest: Manifest) -> str:
    facts = manifest.provenance
    command = (
        f"vitrine-train run {facts.get('recipe', manifest.name)} --seed {facts.get('seed', 0)}"
    )
    source = str(facts.get("init_from") or "")
    if source.partition("@")[0] != facts.get("settings", {}).get("init_from", ""):
        command += f" --init-from {source}"
    dataset = DATASETS.get(str(facts.get("dataset", "")))
    ways = f"\n\nThe data, when they cannot be downloaded: {dataset.ways}." if dataset else ""
    return f"```sh\n{command}\n```{ways}"
