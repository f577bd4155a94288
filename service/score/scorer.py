"""The images of a shard become its rows, in this process, by the code that serves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from artifacts import canonical
from artifacts import model as models
from artifacts.canonical import Placed
from artifacts.classify import answer
from artifacts.images import BadImage, Limits, decode
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
        most = manifest.input.height * manifest.input.width * 3
        waiting: list[tuple[int, NDArray[np.uint8] | Placed]] = []
        files = storage.read_each([storage.join(root, path) for path in paths])
        for place, data in enumerate(files):
            try:
                if isinstance(data, storage.Unreadable):
                    raise data
                image = decode(data, self._limits)
                # A whole batch of small images is placed at once; large ones do not wait for it.
                if image.size <= most:
                    waiting.append((place, image))
                else:
                    waiting.append((place, canonical.place(image, manifest.input, preprocess)))
            except (storage.Unreadable, BadImage) as error:
                rows[place] = rows[place]._replace(error=str(error))
            except MemoryError:
                rows[place] = rows[place]._replace(error="not enough memory to decode it")
            if len(waiting) >= self._batch:
                self._answer(rows, waiting)
                waiting = []
        if waiting:
            self._answer(rows, waiting)
        return rows

    def _answer(
        self, rows: list[Row], waiting: list[tuple[int, NDArray[np.uint8] | Placed]]
    ) -> None:
        """Fill in the rows at the places of some images, decoded or placed already."""
        manifest, wants_all = self._job.manifest, self._job.table.probabilities
        images = [image for _, image in waiting if not isinstance(image, Placed)]
        small = iter(canonical.place_each(images, manifest.input, self._job.preprocess))
        ready: list[tuple[int, Placed]] = []
        for place, image in waiting:
            placed = image if isinstance(image, Placed) else next(small)
            if isinstance(placed, Placed):
                ready.append((place, placed))
            else:
                rows[place] = rows[place]._replace(error=str(placed))
        if not ready:
            return
        outputs = self.model.predict(np.stack([c for _, p in ready for c in p.candidates]))
        classes, start = manifest.classes, 0
        for place, placed in ready:
            end = start + len(placed.candidates)
            found = answer(manifest, outputs[start:end], placed)
            start = end
            path, truth = rows[place].path, rows[place].truth
            each = found.probabilities.tolist() if wants_all else None
            label = classes[found.index]
            rows[place] = Row(
                path, label, found.index, found.confidence, found.decision, None, truth, each
            )
