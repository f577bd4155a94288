"""The Ray engine: the same shards, scored by a pool of actors of a Ray Data pipeline on a cluster.

The output is a data set: OUT/part-<number>-<scored>-<failed>.parquet. Beside the parts stands
OUT/_vitrine with the job, the plan (which paths make up which shard) and, at last, the counts. A
part is written at once or not at all and its content depends on nothing but its shard, so an actor
that dies, or two that do the same, change nothing; and a run that was cut off goes on.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from artifacts import manifest as contract
from service.score import shards, storage
from service.score.job import Job, Misuse, check_same
from service.score.pool import WorkersFailed
from service.score.progress import Progress
from service.score.shards import Counts, Shard

OURS = "_vitrine"  # readers of data sets leave out names that begin so
_PART = re.compile(r"part-(\d{9})-(\d+)-(\d+)\.parquet")
TASKS = 4096  # at most; one covers several shards when there are more
ACTORS_PER_GPU = 4  # decoding is most of the work: one actor leaves a GPU idle


class Part(NamedTuple):
    """A finished shard of the data set."""

    number: int
    scored: int
    failed: int

    @property
    def name(self) -> str:
        return f"part-{self.number:09}-{self.scored}-{self.failed}.parquet"


class Output:
    """The folder or URL of a data set; made anew wherever it is used, so it travels well."""

    def __init__(self, where: str) -> None:
        """Raises Unreadable for a URL whose file system is not installed."""
        self._system, root = storage.open_url(where)
        self.root = root.rstrip("/")
        self._is_local = "file" in str(getattr(self._system, "protocol", ""))

    def parts(self) -> dict[int, Part]:
        """The finished shards by number."""
        found = {}
        for name in self._names(self.root):
            if match := _PART.fullmatch(name):
                part = Part(*map(int, match.groups()))
                found[part.number] = part
        return found

    def part(self, number: int) -> Part | None:
        """The shard if it is finished."""
        for path in self._system.glob(f"{self.root}/part-{number:09}-*.parquet"):
            if match := _PART.fullmatch(path.rpartition("/")[2]):
                return Part(*map(int, match.groups()))
        return None

    def read(self, name: str) -> bytes | None:
        """A whole file of ours, or None."""
        try:
            data: bytes = self._system.cat_file(f"{self.root}/{OURS}/{name}")
        except FileNotFoundError:
            return None
        return data

    def slice(self, name: str, start: int, end: int) -> bytes:
        """Some bytes of a file of ours, without reading the others."""
        data: bytes = self._system.cat_file(f"{self.root}/{OURS}/{name}", start=start, end=end)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file (its name relative to the data set) at once or not at all."""
        path = f"{self.root}/{name}"
        if not self._is_local:  # object stores show an object only when it is whole
            self._system.pipe_file(path, data)
            return
        draft = f"{self.root}/{OURS}/draft-{uuid.uuid4().hex}"
        self._system.pipe_file(draft, data)
        Path(draft).replace(path)

    def open(self, name: str) -> Any:
        """A file of ours to write to, little by little."""
        return self._system.open(f"{self.root}/{OURS}/{name}", "wb")

    def clear(self) -> None:
        """Remove what a run left there, and nothing else."""
        for part in self.parts().values():
            self._system.rm_file(f"{self.root}/{part.name}")
        if self._system.exists(f"{self.root}/{OURS}"):
            self._system.rm(f"{self.root}/{OURS}", recursive=True)

    def prepare(self) -> None:
        self._system.makedirs(f"{self.root}/{OURS}", exist_ok=True)

    def is_taken(self) -> bool:
        """Whether there is anything that is not ours."""
        return any(name != OURS and not _PART.fullmatch(name) for name in self._names(self.root))

    def _names(self, folder: str) -> list[str]:
        try:
            self._system.invalidate_cache()
            return [path.rstrip("/").rpartition("/")[2] for path in self._system.ls(folder, False)]
        except FileNotFoundError:
            return []


class Actor:
    """One process of the cluster: loads the model once, then scores shards."""

    def __init__(self, job: Job, where: str, files: dict[str, bytes]) -> None:
        from service.score.scorer import Scorer

        self._job = job
        self._output = Output(where)
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / job.manifest.version  # the name is part of the contract
            folder.mkdir()
            for name, data in files.items():
                (folder / name).write_bytes(data)
            self._scorer = Scorer(job, folder)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        parts = [
            self._score(int(number), int(start), int(end))
            for number, start, end in zip(
                batch["number"], batch["start"], batch["end"], strict=True
            )
        ]
        return {name: [getattr(part, name) for part in parts] for name in Part._fields}

    def _score(self, number: int, start: int, end: int) -> Part:
        part = self._output.part(number)
        if part is None:
            shard = unpacked(
                number, self._output.slice("paths", start, end), has_truths=bool(self._job.labels)
            )
            rows = self._scorer.score(shard.paths, shard.truths)
            failed = sum(row.error is not None for row in rows)
            part = Part(number, len(rows) - failed, failed)
            self._output.write(part.name, self._job.table.encode(rows))
        return part


def score(
    job: Job,
    version: Path,
    out: str,
    progress: Progress,
    *,
    address: str | None,
    workers: int | None,
    overwrite: bool,
    restart: bool,
) -> Counts:
    """Score into the data set `out` on a Ray cluster, or on a local one with so many workers.

    Raises Misuse, WorkersFailed, BadArtifact.
    """
    where = out if storage.is_url(out) else str(Path(out).resolve())
    output = Output(where)
    _begin(output, out, job.identity(), overwrite=overwrite, restart=restart)
    plan = _plan(output, job)
    before = output.parts()
    counts = Counts()
    for part in before.values():
        _add(counts, progress, part, before=True)
    todo = [shard for shard in plan if shard["number"] not in before]
    if todo:
        files = contract.check_files(version, job.manifest)
        files[contract.MANIFEST_FILE] = (version / contract.MANIFEST_FILE).read_bytes()
        for part in _on_ray(job, where, files, todo, address=address, workers=workers):
            _add(counts, progress, part)
    progress.end()
    output.write(f"{OURS}/finished.json", json.dumps(counts.__dict__).encode())
    return counts


def _begin(
    output: Output, shown: str, identity: dict[str, Any], *, overwrite: bool, restart: bool
) -> None:
    """See that the place is free, or holds an interrupted run of the same job."""
    if output.is_taken():
        raise Misuse(f"{shown} holds other files; give --out a folder of its own")
    record = output.read("job.json")
    is_finished = output.read("finished.json") is not None
    if is_finished and not overwrite:
        raise Misuse(f"{shown} exists; --overwrite replaces it")
    if is_finished or restart:
        output.clear()
        record = None
    if record is None:
        output.prepare()
        output.write(f"{OURS}/job.json", json.dumps(identity, indent=1).encode())
    else:
        check_same(json.loads(record), identity, shown)


def _plan(output: Output, job: Job) -> list[dict[str, int]]:
    """Which bytes of the file `paths` name the images of each shard; made once, then kept."""
    record = output.read("plan.json")
    if record is None:
        bounds, end = [0], 0
        with output.open("paths") as file:
            for shard in shards.divide(job.source.paths(), job.truth()):
                end += file.write(packed(shard))
                bounds.append(end)
        record = json.dumps(bounds).encode()
        output.write(f"{OURS}/plan.json", record)
    bounds = json.loads(record)
    return [
        {"number": number, "start": bounds[number], "end": bounds[number + 1]}
        for number in range(len(bounds) - 1)
    ]


def packed(shard: Shard) -> bytes:
    """A shard's paths, and its classes where they are known, each ended by a zero byte."""
    fields = shard.paths
    if shard.truths is not None:
        fields = [text for pair in zip(shard.paths, shard.truths, strict=True) for text in pair]
    return b"".join(os.fsencode(text) + b"\0" for text in fields)


def unpacked(number: int, data: bytes, *, has_truths: bool) -> Shard:
    """What `packed` put into `data`."""
    fields = [os.fsdecode(text) for text in data.split(b"\0")[:-1]]
    if has_truths:
        return Shard(number, fields[::2], fields[1::2])
    return Shard(number, fields, None)


def _on_ray(
    job: Job,
    where: str,
    files: dict[str, bytes],
    todo: list[dict[str, int]],
    *,
    address: str | None,
    workers: int | None,
) -> Iterator[Part]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise Misuse("--engine ray needs Ray: install the extra `ray`") from error
    cores = workers or len(os.sched_getaffinity(0))
    if address is None:
        ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    else:
        ray.init(address=address, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = resources.get("GPU", 0) if job.provider != "cpu" else 0
        most = workers or int(gpus * ACTORS_PER_GPU or resources["CPU"])
        results = (
            ray.data.from_items(todo, override_num_blocks=min(len(todo), TASKS))
            .map_batches(
                Actor,
                batch_size=1,
                fn_constructor_args=(job, where, files),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                num_cpus=1,
                num_gpus=1 / ACTORS_PER_GPU if gpus else None,
            )
            .iter_rows()
        )
        for record in results:
            yield Part(**{name: int(record[name]) for name in Part._fields})
    except ray.exceptions.RayError as error:
        raise WorkersFailed(f"the cluster gave up: {error}") from error
    finally:
        ray.shutdown()


def _add(counts: Counts, progress: Progress, part: Part, *, before: bool = False) -> None:
    counts.scored += part.scored
    counts.failed += part.failed
    progress.add(part.scored, part.failed, before=before)
