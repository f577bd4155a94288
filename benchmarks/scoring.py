"""`vitrine score` beside the obvious loop and the machine's ceiling; its memory; its start.

    python -m benchmarks.pictures /tmp/mnist
    python -m benchmarks.scoring /tmp/mnist speed    # files/s, interleaved rounds, medians
    python -m benchmarks.scoring /tmp/mnist memory   # peak memory at 7,000 and 70,000 files
    python -m benchmarks.scoring /tmp/mnist million  # 1,000,000 paths: start, memory
    python -m benchmarks.scoring /tmp/mnist kills    # ten times kill -9, and resumed
    python -m benchmarks.scoring /tmp/mnist threads  # two threads instead of two processes

The model is the reference network unless --model names another of the store in VITRINE_STATE.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks import images, reference

BATCH = 64
CORES = 2
MILLION = 1_000_000


class Cost(NamedTuple):
    """What a run took: seconds by the clock, and of processors (all processes together)."""

    seconds: float
    cpu_s: float

    def less(self, start: Cost) -> Cost:
        return Cost(self.seconds - start.seconds, self.cpu_s - start.cpu_s)


def plain(folder: Path, model: Path, threads: int) -> Cost:
    """The loop anybody would write: Pillow, batches of 64, a CSV."""
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
    return _timed([sys.executable, "-c", code])


def ceiling(folder: Path, model: Path) -> Cost:
    """Two processes that have every file in memory decode it and run the model; no more."""
    paths = sorted(folder.rglob("*.png"))
    context = multiprocessing.get_context("spawn")
    ready, go = context.Barrier(CORES + 1), context.Barrier(CORES + 1)
    used = context.SimpleQueue()
    processes = [
        context.Process(target=_decode_and_run, args=(paths[core::CORES], model, ready, go, used))
        for core in range(CORES)
    ]
    for process in processes:
        process.start()
    ready.wait()
    began = time.perf_counter()
    go.wait()
    cpu_s = sum(used.get() for _ in processes)
    seconds = time.perf_counter() - began
    for process in processes:
        process.join()
    return Cost(seconds, cpu_s)


def _decode_and_run(paths: list[Path], model: Path, ready: Any, go: Any, used: Any) -> None:
    import numpy as np

    from artifacts.images import decode

    session = reference.session(model.read_bytes())
    files = [path.read_bytes() for path in paths]
    ready.wait()
    go.wait()
    began = time.process_time()
    for start in range(0, len(files), BATCH):
        pixels = np.stack([decode(data) for data in files[start : start + BATCH]])
        session.run(None, {"images": pixels})
    used.put(time.process_time() - began)


def score(source: str, name: str, *options: str, cwd: Path) -> list[str]:
    """The command that scores, its output in `cwd`."""
    out = ["--out", str(cwd / "rows.csv"), "--overwrite", "--workers", str(CORES)]
    return [sys.executable, "-m", "service.cli", "score", source, "--model", name, *out, *options]


def speed(folder: Path, name: str, model: Path, work: Path, rounds: int) -> None:
    """Every contender in every round; medians.

    What a contender takes for a folder of 64 files (its start) is subtracted from files/s, so that
    the figure is that of a long run; the ceiling has no start.
    """
    count = sum(1 for _ in folder.rglob("*.png"))
    few = work / "few"  # enough to start both workers
    few.mkdir()
    for number, path in zip(range(64), folder.rglob("*.png"), strict=False):
        (few / f"{number}.png").hardlink_to(path)
    contenders: dict[str, Callable[[Path], Cost]] = {
        "plain loop, one thread": lambda source: plain(source, model, 1),
        "plain loop, ONNX Runtime's own threads": lambda source: plain(source, model, 0),
        "ceiling: decode + inference, 2 processes": lambda source: (
            ceiling(source, model) if source is folder else Cost(0, 0)
        ),
        "vitrine score, 2 workers": lambda source: _timed(score(str(source), name, cwd=work)),
    }
    found: dict[str, list[Cost]] = {contender: [] for contender in contenders}
    starts: dict[str, list[float]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender, run in contenders.items():
            start = run(few)
            cost = run(folder).less(start)
            found[contender].append(cost)
            starts[contender].append(start.seconds)
            rate = count / cost.seconds
            print(f"round {number + 1}: {contender}: {rate:,.0f}/s", file=sys.stderr, flush=True)
    rates = {c: sorted(count / cost.seconds for cost in costs) for c, costs in found.items()}
    ours = rates["vitrine score, 2 workers"]
    print(f"{count:,} files, {rounds} interleaved rounds, medians\n")
    print("| | start s | files/s | spread | CPU us a file | vitrine score is |")
    print("| --- | --- | --- | --- | --- | --- |")
    for contender, costs in found.items():
        cpu_us = statistics.median(cost.cpu_s for cost in costs) / count * 1e6
        rate = statistics.median(rates[contender])
        print(
            f"| {contender} | {statistics.median(starts[contender]):.2f} | {rate:,.0f} "
            f"| {rates[contender][0]:,.0f} to {rates[contender][-1]:,.0f} | {cpu_us:.0f} "
            f"| {statistics.median(ours) / rate:.2f} x |"
        )


def threads(folder: Path, version: Path) -> None:
    """Files a second of one process with one thread and with two: why workers are processes."""
    from artifacts.manifest import read
    from service.score.job import Job
    from service.score.rows import Table
    from service.score.scorer import Scorer
    from service.score.walk import Source

    source = Source(where=str(folder), kind="folder")
    table = Table(format="csv", model="", version="")
    scorer = Scorer(Job(source=source, manifest=read(version), table=table), version)
    paths = list(source.paths())
    shards = [paths[start : start + 256] for start in range(0, len(paths), 256)]
    for count in (1, CORES, 1, CORES):
        with ThreadPoolExecutor(count) as pool:
            began = time.perf_counter()
            list(pool.map(scorer.score, shards))
            print(f"{count} threads: {len(paths) / (time.perf_counter() - began):,.0f}/s")


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


def kills(folder: Path, name: str, work: Path, times: int) -> None:
    """Killed with SIGKILL at random moments and resumed: is the output that of a whole run?"""
    command, out = score(str(folder), name, cwd=work), work / "rows.csv"
    whole_s = _timed(command).seconds
    wanted, moments, killed = out.read_bytes(), random.Random(0), 0
    while killed < times:
        out.unlink(missing_ok=True)
        alive = True
        while alive:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            try:
                # After the tenth kill, whatever is left is finished.
                process.wait(moments.uniform(0, whole_s) if killed < times else None)
                alive = False
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                killed += 1
                done = sum(1 for _ in _shards(work / "rows.csv.partial"))
                print(f"kill {killed}: {done} shards were finished")
        if out.read_bytes() != wanted:
            raise SystemExit("the output differs from that of an uninterrupted run")
        print(f"resumed to its end: all {len(wanted):,} bytes are the same")


def _timed(command: list[str]) -> Cost:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, cpu_s)


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
    if not partial.is_dir():
        return
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
    parser.add_argument("what", choices=("speed", "memory", "million", "kills", "threads"))
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
        elif arguments.what == "threads":
            threads(arguments.folder, model.parent)
        elif arguments.what == "kills":
            kills(arguments.folder, name, work, 10)
        else:
            million(arguments.folder, name, work)
    finally:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
