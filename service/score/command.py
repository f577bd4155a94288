"""`vitrine score`: parses, checks, runs, says what came of it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from artifacts.manifest import BadArtifact, Manifest
from artifacts.manifest import read as read_manifest
from artifacts.store import NotFound, Store
from service.score import pool, remote, rows, run, storage
from service.score.job import Job, Misuse
from service.score.page import page
from service.score.pool import WorkersFailed
from service.score.progress import Progress
from service.score.shards import Counts
from service.score.storage import is_url
from service.score.tally import tally, text
from service.score.truth import BadLabels
from service.score.walk import SUFFIXES, Passed, Source
from service.settings import Settings

ALL, SOME, MISUSE, INTERRUPTED = 0, 1, 2, 130

EXAMPLES = """\
examples:
  vitrine score scans/ --model digits --out predictions.csv
  find . -name '*.png' | vitrine score - --model digits > predictions.csv
  vitrine score test/ --model digits --out rows.parquet --labels folder --report report.html
  vitrine score scans/ --model digits --out rows.jsonl --url http://gpu-machine:3000
  vitrine score s3://bucket/scans --model digits --out s3://bucket/rows --engine ray
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `vitrine score`."""
    parser.add_argument("source", help="a folder (or its URL), a file of paths, or - for stdin")
    parser.add_argument("--model", required=True, help="a model's or a task's name")
    parser.add_argument("--version", help="a version of the model; the live one if not given")
    parser.add_argument(
        "--out",
        help="the file to write: .csv, .jsonl or .parquet; stdout (CSV) if not given; "
        "with --engine ray a folder or URL",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--restart", action="store_true", help="discard an interrupted run")
    parser.add_argument("--preprocess", choices=("auto", "raw"), default="auto")
    parser.add_argument(
        "--probabilities", action="store_true", help="add a column with every class's probability"
    )
    parser.add_argument("--follow-links", action="store_true", help="walk into linked folders")
    parser.add_argument(
        "--labels",
        help="the classes are known: `folder` if each image's folder is named after its class, or "
        "a CSV of path,label",
    )
    parser.add_argument("--report", type=Path, help="write a page about how right it was (HTML)")
    parser.add_argument("--workers", type=_positive, help="processes; the number of cores if unset")
    parser.add_argument("--url", default="", help="score through the service at this address")
    parser.add_argument(
        "--requests", type=_positive, default=8, help="requests at once with --url (%(default)s)"
    )
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--address", help="the Ray cluster's; a local one if not given")


def main(arguments: argparse.Namespace, settings: Settings) -> int:
    """Score; 0 all have an answer, 1 some have none, 2 misuse, 130 interrupted."""
    began = time.monotonic()
    try:
        _check(arguments)
        job, folder = _job(arguments, settings)
        counts = _run(arguments, job, folder)
        _report(arguments, job)
    except (Misuse, BadLabels, NotFound) as error:
        return _said(str(error), MISUSE)
    except (WorkersFailed, BadArtifact, storage.Unreadable) as error:
        return _said(str(error), SOME)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME
    except OSError as error:
        return _said(f"{error.filename or 'output'}: {error.strerror}", SOME)
    except KeyboardInterrupt:
        going_on = " the same command goes on from here" if arguments.out else ""
        return _said(f"interrupted;{going_on}", INTERRUPTED)
    _summary(arguments, job, counts, time.monotonic() - began)
    return SOME if counts.failed else ALL


def _run(arguments: argparse.Namespace, job: Job, folder: Path) -> Counts:
    again = replace(job.source, passed=Passed())
    progress = Progress(again.paths if job.source.rereadable else None)
    if arguments.engine == "ray":
        from service.score.cluster import score as on_ray

        return on_ray(
            job,
            folder,
            arguments.out,
            progress,
            address=arguments.address,
            workers=arguments.workers,
            overwrite=arguments.overwrite,
            restart=arguments.restart,
        )
    engine: run.Engine
    if job.url:
        engine = partial(remote.score, job, requests=arguments.requests)
    else:
        engine = partial(_in_processes, job, folder, arguments.workers or _cores())
    if arguments.out is None:
        return run.to_stream(job, sys.stdout.buffer, engine, progress)
    return run.to_file(
        job,
        Path(arguments.out),
        engine,
        progress,
        overwrite=arguments.overwrite,
        restart=arguments.restart,
    )


def _in_processes(job: Job, folder: Path, workers: int, place: Path, todo: Any) -> Any:
    return pool.score(job, folder, place, todo, workers)


def _job(arguments: argparse.Namespace, settings: Settings) -> tuple[Job, Path]:
    """The job, and the folder of the version that does it (the current one with --url)."""
    source = _source(arguments)
    if arguments.url:
        service = remote.Service(arguments.url)
        manifest, folder = service.manifest(arguments.model), Path()
        service.close()
        if arguments.version not in (None, manifest.version):
            raise Misuse(
                f"the service at {arguments.url} serves version {manifest.version}, "
                f"not {arguments.version}"
            )
    else:
        manifest, folder = _stored(arguments, settings)
    labels = arguments.labels or ("folder" if arguments.report else "")
    if labels not in ("", "folder"):
        labels = str(Path(labels).resolve())
    ray = arguments.engine == "ray"
    kind = "parquet" if ray else rows.FORMATS[Path(arguments.out or "rows.csv").suffix]
    job = Job(
        source=source,
        manifest=manifest,
        table=rows.Table(
            format=kind,
            model=manifest.name,
            version=manifest.version,
            truth=bool(labels),
            probabilities=arguments.probabilities,
        ),
        preprocess=arguments.preprocess,
        provider=settings.execution_provider,
        max_pixels=settings.max_pixels,
        labels=labels,
        url=arguments.url.rstrip("/"),
    )
    return job, folder


def _stored(arguments: argparse.Namespace, settings: Settings) -> tuple[Manifest, Path]:
    store = Store(settings.state)
    if arguments.version is None:
        model, version = store.resolve(arguments.model)
    else:
        catalog = store.catalog()
        model, version = catalog.tasks.get(arguments.model, arguments.model), arguments.version
    folder = store.folder(model, version).resolve()
    return read_manifest(folder), folder


def _source(arguments: argparse.Namespace) -> Source:
    where = arguments.source
    if where == "-":
        return Source(where="-", kind="list")
    if is_url(where):
        return Source(where=where.rstrip("/"), kind="folder")
    path = Path(where)
    if path.is_dir():
        return Source(where=str(path.resolve()), kind="folder", follow_links=arguments.follow_links)
    if not path.is_file():
        raise Misuse(f"{where}: no such folder or file")
    if path.suffix.lower() in SUFFIXES:
        raise Misuse(f"{where} is an image; give its folder, or a list: echo {where} | ... score -")
    return Source(where=str(path.resolve()), kind="list")


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is begun."""
    out = arguments.out
    if arguments.engine == "ray":
        if out is None or Path(out).suffix in rows.FORMATS:
            raise Misuse("--engine ray writes a data set of many files: --out FOLDER or its URL")
        if arguments.url:
            raise Misuse("--engine ray and --url exclude each other")
        if arguments.source == "-":
            raise Misuse("--engine ray cannot read stdin; give a folder, a URL or a file of paths")
        return
    if arguments.address:
        raise Misuse("--address goes with --engine ray")
    if out is None:
        if arguments.labels or arguments.report:
            raise Misuse("--labels and --report need an output file: --out FILE")
        return
    if is_url(out):
        raise Misuse("only --engine ray writes to a URL")
    if Path(out).suffix not in rows.FORMATS:
        raise Misuse(f"--out {out}: expected a name that ends in {', '.join(rows.FORMATS)}")
    if Path(out).suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise Misuse("parquet needs pyarrow: install the extra `score`") from error
    if not Path(out).absolute().parent.is_dir():
        raise Misuse(f"--out {out}: there is no such folder to write into")


def _report(arguments: argparse.Namespace, job: Job) -> None:
    """What the known classes say of the finished output: text to stdout, a page if asked for."""
    if not job.labels:
        return
    found = tally(rows.read_any(arguments.out), job.manifest.classes)
    print(text(found))
    if arguments.report is None:
        return

    def read(path: str) -> bytes | None:
        for name in (path, rows.hidden(path)):
            try:
                return storage.read(storage.join(job.source.root, name))
            except storage.Unreadable:
                continue
        return None

    arguments.report.write_text(
        page(found, job.manifest, Path(arguments.source).name or arguments.source, read),
        encoding="utf-8",
    )


def _summary(arguments: argparse.Namespace, job: Job, counts: Counts, seconds: float) -> None:
    total = counts.scored + counts.failed
    line = f"{counts.scored:,} scored, {counts.failed:,} failed"
    line += f" in {seconds:.1f} s ({total / max(seconds, 1e-9):,.0f}/s)"
    line += f" by {job.manifest.name} {job.manifest.version}"
    if arguments.out:
        line += f": {arguments.out}"
    print(line, file=sys.stderr)
    passed = job.source.passed
    if passed.others:
        print(f"{passed.others:,} other files passed by", file=sys.stderr)
    if passed.links:
        print(f"{passed.links:,} linked folders passed by (--follow-links)", file=sys.stderr)


def _said(message: str, code: int) -> int:
    print(f"vitrine score: {message}", file=sys.stderr)
    return code


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return number
