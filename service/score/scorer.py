"""The images of a shard become its rows, in this process, by the code that serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts import model as models
from artifacts.canonical import Placed
from artifacts.classify import answer, prepare
from artifacts.images import BadImage, Limits
from service.score import storage
from service.score.job import Job
from service.score.rows import Row

# Rows in one run of the model. On CPU, larger batches are no faster, and their activations are
# returned to the system after each run and faulted in again (a quarter of the time at 64).
BATCH = {"cpu": 32, "cuda": 256}


class Scorer:
    """One process's model, with the rules of a job."""

    def __init__(self, job: Job, folder: Path) -> None:
        """Loads and verifies the version in `folder`. Raises BadArtifact, NoProvider."""
        self.model = models.load(folder, execution_provider=job.provider)
        self._job = job
        self._limits = Limits(max_pixels=job.max_pixels)
        self._batch = BATCH[self.model.provider]

    def score(self, paths: list[str], truths: list[str] | None = None) -> list[Row]:
        """One row for each path, in order. Batches end with the list, so they do not depend on
        what was scored before."""
        root, manifest, preprocess = (
            self._job.source.root,
            self._job.manifest,
            self._job.preprocess,
        )
        rows: list[Row] = [Row(path) for path in paths]
        if truths is not None:
            rows = [row._replace(truth=truth) for row, truth in zip(rows, truths, strict=True)]
        waiting: list[tuple[int, Placed]] = []
        pixels: list[NDArray[np.uint8]] = []
        for place, path in enumerate(paths):
            try:
                data = storage.read(storage.join(root, path))
                placed = prepare(data, manifest, preprocess, self._limits)
            except (storage.Unreadable, BadImage) as error:
                rows[place] = rows[place]._replace(error=str(error))
                continue
            except MemoryError:
                rows[place] = rows[place]._replace(error="not enough memory to decode it")
                continue
            waiting.append((place, placed))
            pixels += placed.candidates
            if len(pixels) >= self._batch:
                self._answer(rows, waiting, pixels)
                waiting, pixels = [], []
        if waiting:
            self._answer(rows, waiting, pixels)
        return rows

    def _answer(
        self,
        rows: list[Row],
        waiting: list[tuple[int, Placed]],
        pixels: list[NDArray[np.uint8]],
    ) -> None:
        manifest, wanted = self._job.manifest, self._job.table.probabilities
        outputs = self.model.predict(np.stack(pixels))
        classes, start = manifest.classes, 0
        for place, placed in waiting:
            end = start + len(placed.candidates)
            found = answer(manifest, outputs[start:end], placed)
            start = end
            row = rows[place]
            rows[place] = Row(
                row.path,
                classes[found.index],
                found.index,
                found.confidence,
                found.decision,
                None,
                row.truth,
                found.probabilities.tolist() if wanted else None,
            )
