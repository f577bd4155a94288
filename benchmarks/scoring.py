"""`vitrine score` beside the obvious loop and the machine's ceiling; its memory; its start.

    python -m benchmarks.pictures /tmp/mnist
    python -m benchmarks.scoring /tmp/mnist speed    # files/s, interleaved rounds, medians
    python -m benchmarks.scoring /tmp/mnist memory   # peak memory at 7,000 and 70,000 files
    python -m benchmarks.scoring /tmp/mnist million  # 1,000,000 paths: start, memory, rate

The model is the reference network unless --model names another of the store in VITRINE_STATE.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import images, reference

BATCH = 64
CORES = 2
MILLION = 1_000_000


def plain(folder: Path, model: Path, threads: int) -> float:
    """Seconds for the loop anybody would write: Pillow, batches of 64, a CSV at the end."""
    code = f"""
import csv, sys, pathlib
import numpy, onnxruntime
from PIL import Image
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = {threads}
session = onnxruntime.InferenceSession({str(model)!r}, options)
paths = sorted(pathlib.Path({str(folder)!r}).rglob("*.png"))
with open("/dev/null", "w") as file:
    rows = csv.writer(file)
    for start in range(0, len(paths), {BATCH}):
        some = paths[start : start + {BATCH}]
        pixels = numpy.stack([numpy.asarray(Image.open(path).convert("L")) for path in some])
        answers = session.run(None, {{"images": pixels}})[0]
        for path, row in zip(some, answers):
            rows.writerow([path, int(row.argmax()), float(row.max())])
"""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def ceiling(folder: Path, model: Path) -> float:
    """Seconds for two processes that have every file in memory to decode it and run the model."""
    paths = sorted(folder.rglob("*.png"))
    context = multiprocessing.get_context("spawn")
    ready, go = context.Barrier(CORES + 1), context.Barrier(CORES + 1)
    processes = [
        context.Process(target=_decode_and_run, args=(paths[core::CORES], model, ready, go))
        for core in range(CORES)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    go.wait()
    for process in processes:
        process.join()
    return time.perf_counter() - began


def _decode_and_run(paths: list[Path], model: Path, ready: Any, go: Any) -> None:
    import numpy as np

    from artifacts.images import decode

    session = reference.session(model.read_bytes())
    files = [path.read_bytes() for path in paths]
    ready.wait()
    go.wait()
    for start in range(0, len(files), BATCH):
        pixels = np.stack([decode(data) for data in files[start : start + BATCH]])
        session.run(None, {"images": pixels})
    os._exit(0)  # not a part of what is measured: freeing everything


def score(source: str, name: str, *options: str, cwd: Path) -> list[str]:
    """The command that scores, its output in `cwd`."""
    out = ["--out", str(cwd / "rows.csv"), "--overwrite", "--workers", str(CORES)]
    return [sys.executable, "-m", "service.cli", "score", source, "--model", name, *out, *options]


def speed(folder: Path, name: str, model: Path, work: Path, rounds: int) -> None:
    """Files a second of each contender, all in every round, and the ratios of the medians."""
    count = sum(1 for _ in folder.rglob("*.png"))
    contenders: dict[str, Callable[[], float]] = {
        "plain loop, one thread": lambda: plain(folder, model, 1),
        "plain loop, ONNX Runtime's own threads": lambda: plain(folder, model, 0),
        "ceiling: decode + inference, 2 processes": lambda: ceiling(folder, model),
        "vitrine score, 2 workers": lambda: _timed(score(str(folder), name, cwd=work)),
    }
    rates: dict[str, list[float]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender, run in contenders.items():
            rates[contender].append(count / run())
            print(f"round {number + 1}: {contender}: {rates[contender][-1]:,.0f}/s", flush=True)
    medians = {contender: statistics.median(found) for contender, found in rates.items()}
    ours = medians["vitrine score, 2 workers"]
    print(f"\n{count:,} files, {rounds} rounds\n\n| | files/s | spread | vitrine score is |")
    print("| --- | --- | --- | --- |")
    for contender, median in medians.items():
        spread = f"{min(rates[contender]):,.0f} to {max(rates[contender]):,.0f}"
        print(f"| {contender} | {median:,.0f} | {spread} | {ours / median:.2f} x |")


def memory(folder: Path, name: str, work: Path) -> None:
    """Peak memory, all processes together, at 7,000 and 70,000 files."""
    peaks = {}
    every = sorted(folder.rglob("*.png"))
    for count in (7_000, 70_000):
        listing = work / f"{count}"
        for path in every[:: len(every) // count][:count]:
            place = listing / path.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.hardlink_to(path)
        peaks[count], _ = _peak(score(str(listing), name, cwd=work), work)
        print(f"{count:>9,} files: {peaks[count] / 1e6:,.1f} MB at the peak")
    print(f"ratio {peaks[70_000] / peaks[7_000]:.2f}")


def million(folder: Path, name: str, work: Path) -> None:
    """A million hard links in one directory, and a million lines: the first result, the memory."""
    links, every = work / "million", sorted(folder.rglob("*.png"))
    links.mkdir()
    for number in range(MILLION):
        # A file can have so many names and no more: 65,000 on ext4.
        (links / f"{number * 7919 % MILLION:07}.png").hardlink_to(every[number % len(every)])
    names = work / "names.txt"
    with names.open("w") as file:
        file.writelines(f"{every[number % len(every)]}\n" for number in range(MILLION))
    for what, source in (("hard links in one folder", links), ("lines of a list", names)):
        peak, first_s = _peak(score(str(source), name, cwd=work), work)
        print(f"1,000,000 {what}: first result after {first_s:.2f} s, {peak / 1e6:,.1f} MB")


def _timed(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def _peak(command: list[str], work: Path) -> tuple[int, float]:
    """Peak bytes of a command with its children (sum of proportional sizes, sampled ten times a
    second), and the seconds until its first shard was there."""
    began = time.perf_counter()
    process = psutil.Popen(command, stderr=subprocess.DEVNULL)
    peak, first_s, looked = 0, 0.0, 0.0
    partial = work / "rows.csv.partial"
    while process.poll() is None:
        now = time.perf_counter()
        if not first_s and partial.is_dir() and any(_shards(partial)):
            first_s = now - began
        if now - looked > 0.1:
            looked = now
            peak = max(peak, _memory(process))
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak, first_s


def _shards(partial: Path) -> Iterator[str]:
    with os.scandir(partial) as entries:
        yield from (entry.name for entry in entries if entry.name[0].isdigit())


def _memory(process: psutil.Process) -> int:
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=("speed", "memory", "million"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", help="a model of the store in VITRINE_STATE")
    arguments = parser.parse_args(argv)
    work = Path(tempfile.mkdtemp(prefix="vitrine-scoring-", dir=arguments.folder.parent))
    try:
        name = arguments.model
        if name is None:
            os.environ["VITRINE_STATE"] = str(work / "state")
            name = reference.NAME
            reference.publish(work / "state", reference.build(), images.load().pixels)
        from artifacts.store import Store

        store = Store(Path(os.environ["VITRINE_STATE"]))
        model = store.folder(*store.resolve(name)) / "model.onnx"
        if arguments.what == "speed":
            speed(arguments.folder, name, model, work, arguments.rounds)
        elif arguments.what == "memory":
            memory(arguments.folder, name, work)
        else:
            million(arguments.folder, name, work)
    finally:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
