"""The live models of this process: load, verify, warm, swap.

The catalog on disk says which version is live; every worker looks at it twice a second and adopts
what changed on its own. A version that does not load is reported and the old one goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from artifacts import model as loading
from artifacts.manifest import BadArtifact, Manifest, read
from artifacts.store import CATALOG_FILE, Catalog, NotFound, Store
from service.confirmations import Confirmations
from service.live import Live, load_live
from service.metrics import CUDA_UNUSED, RELOADS
from service.placement import why_not_cuda
from service.settings import Settings
from service.turns import Turns

log = logging.getLogger("vitrine.models")

WATCH_S = 0.5
_WORDED = (BadArtifact, NotFound, loading.NoProvider)  # in words that a client may read
_EXPECTED = (*_WORDED, OSError, MemoryError)


class NotReady(Exception):
    """The model exists, but does not answer (yet): still loading, or its version is broken."""


class Models:
    """What this process serves, by model's and by task's name.

    `get` is for the hot path: one look in a dictionary. Everything else happens in `start`,
    `obtain` and `watch`, whose slow parts run on a thread.
    """

    def __init__(self, store: Store, settings: Settings, device: int = 0) -> None:
        self.store = store
        self.settings = settings
        self.device = device  # the GPU of this process, where there is one
        self.turns = Turns()
        self.started = False
        self.provider_problem = ""  # why the CPU runs what CUDA was meant to; empty: all is well
        self.failures: dict[str, str] = {}  # model -> why its catalogued version does not answer
        self.on_swap: list[Callable[[], None]] = []  # told whenever `get` may answer differently
        self._manifests: dict[str, Manifest] = {}  # of the live versions, loaded or not
        self._live: dict[str, Live] = {}
        self._names: dict[str, Live] = {}  # models and tasks
        self._catalog = Catalog()
        self._seen: object = None
        self._changing = asyncio.Lock()
        self._retired: list[Live] = []  # replaced, but requests may still hold them
        self._closing: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._loader = ThreadPoolExecutor(1, "loader")
        self._confirmations = Confirmations(settings.state)
        self._watcher: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Every task's model answers, but for those that somebody unloaded."""
        wanted = set(self._catalog.tasks.values())
        unloaded = {m for m, entry in self._catalog.live.items() if entry.version is None}
        unread = CATALOG_FILE in self.failures and not self._catalog.live
        return self.started and not unread and self._live.keys() >= wanted - unloaded

    @property
    def catalog(self) -> Catalog:
        """The catalog as this process last read it."""
        return self._catalog

    def live(self) -> list[Live]:
        """The loaded models, by name."""
        return [self._live[name] for name in sorted(self._live)]

    def retired(self) -> list[Live]:
        """Versions that were replaced lately; they answer the requests that began with them."""
        return list(self._retired)

    def get(self, name: str) -> Live | None:
        """The loaded model that a model's or task's name stands for; None if it is not loaded."""
        return self._names.get(name)

    def manifest(self, model: str) -> Manifest | None:
        """What a model promises: of the version that answers, else of the one that would."""
        live = self._live.get(model)
        return self._manifests.get(model) if live is None else live.manifest

    def known(self, name: str) -> str | None:
        """The model that a name stands for, loaded or not; None where nothing live is named so."""
        model = self._catalog.tasks.get(name, name)
        entry = self._catalog.live.get(model)
        return None if entry is None or entry.version is None else model

    async def obtain(self, name: str) -> Live:
        """The model of a name, loaded if it was not. Raises NotFound, NotReady."""
        live = self._names.get(name)
        if live is not None:
            live.used = time.monotonic()
            return live
        if not self.started:
            raise NotReady("the models are still being loaded")
        model = self.known(name)
        if model is None:
            names = sorted(
                {*self._catalog.tasks, *(m for m in self._catalog.live if self.known(m))}
            )
            raise NotFound(f"there is no model or task of that name; there are {', '.join(names)}")
        async with self._changing:
            if model not in self._live and model not in self.failures:
                await self._adopt(model)
                self._evict(keep=model)
                self._rename()  # also where it failed: the other workers want to know
        live = self._live.get(model)
        if live is None:
            raise NotReady(f"model {model} does not load: {self.failures.get(model, 'unloaded')}")
        return live

    async def start(self) -> None:
        """Load the tasks' models and those the settings name, then watch the catalog for ever."""
        try:
            await self._look()
        except Exception as error:  # the watch looks again
            log.exception("looking at the catalog failed")
            self.failures[CATALOG_FILE] = f"it is not read ({type(error).__name__})"
        self._look_at_providers()
        self.started = True
        self._watcher = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop watching; answer what was accepted; forget every model."""
        if self._watcher is not None:
            self._watcher.cancel()
        self._stopping.set()
        await asyncio.gather(*(live.batcher.close() for live in self._live.values()))
        if self._closing:
            await asyncio.wait(self._closing)
        self.turns.close()
        self._loader.shutdown(cancel_futures=True)
        self._confirmations.remove()

    def _look_at_providers(self) -> None:
        """Say so, in the log and in the metrics, where CUDA is installed and yet not used."""
        used = {live.provider for live in self._live.values()}
        self.provider_problem = why_not_cuda(self.settings, used)
        CUDA_UNUSED.set(bool(self.provider_problem))
        if self.provider_problem:
            log.warning("models run on the CPU, not on CUDA: %s", self.provider_problem)

    async def lagging(self, model: str, version: str | None, wait_s: float) -> tuple[int, int]:
        """Wait until every worker of this host has adopted; how many have not, of how many."""
        end = time.monotonic() + wait_s
        while True:
            behind, workers = await asyncio.to_thread(
                self._confirmations.count_behind, model, version
            )
            if not behind or time.monotonic() > end:
                return behind, workers
            await asyncio.sleep(0.05)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self._look()
            except Exception:  # the watch must outlive whatever a disk can do
                log.exception("looking at the catalog failed")

    async def _look(self) -> None:
        """Adopt what the catalog says, if it changed since the last look."""
        seen = [_stamp(path) for path in self.store.catalogs]
        if seen == self._seen:
            return
        loop = asyncio.get_running_loop()
        try:
            catalog, manifests = await loop.run_in_executor(self._loader, self._read)
        except BadArtifact as error:
            log.error("the catalog is not read: %s", error)
            self.failures[CATALOG_FILE] = str(error)
            self._seen = seen
            return
        async with self._changing:
            self.failures.pop(CATALOG_FILE, None)
            before, self._catalog, self._seen = self._catalog, catalog, seen
            self._manifests = manifests
            for model in [m for m in self._live if self.known(m) is None]:
                self._retire(self._live.pop(model))
                log.info("model %s is no longer served", model)
            named = {catalog.tasks.get(name, name) for name in self.settings.models}
            wanted = {*self._live, *catalog.tasks.values(), *named, *self.failures}
            if self.started:  # what somebody just activated is loaded now, so that it is proved
                wanted |= {m for m, entry in catalog.live.items() if before.live.get(m) != entry}
            for model in sorted(wanted):
                if self.known(model) is not None:
                    await self._adopt(model)
                else:
                    self.failures.pop(model, None)
            for model in named:
                if self.known(model) is None:
                    self.failures[model] = "VITRINE_MODELS names it, but no version of it is live"
            self._rename()

    def _read(self) -> tuple[Catalog, dict[str, Manifest]]:
        """The catalog, and the manifests it points to as far as they can be read."""
        catalog = self.store.catalog()
        manifests = {}
        for model, entry in catalog.live.items():
            if entry.version is not None:
                with contextlib.suppress(BadArtifact, NotFound, OSError):  # told when it loads
                    manifests[model] = read(self.store.folder(model, entry.version))
        return catalog, manifests

    async def _adopt(self, model: str) -> None:
        """Make the catalogued version of a model answer; on failure keep what answers now."""
        version = self._catalog.live[model].version
        assert version is not None
        old = self._live.get(model)
        if old is not None and old.version == version:
            self.failures.pop(model, None)
            return
        loop = asyncio.get_running_loop()
        try:
            folder = self.store.folder(model, version)
            load = partial(load_live, folder, model, self.turns, self.settings, self.device)
            live = await loop.run_in_executor(self._loader, load)
        except Exception as error:  # whatever is wrong with one, the others are adopted
            if not isinstance(error, _EXPECTED):
                log.exception("loading model %s failed", model)
            kept = "nothing answers for it" if old is None else f"{old.version} goes on"
            log.error("model %s version %s is refused, %s: %s", model, version, kept, error)
            RELOADS.labels(model, "failed").inc()
            self.failures[model] = f"version {version} is refused: {_told(error)}"
            return
        self.failures.pop(model, None)
        self._live[model] = live
        if old is not None:
            self._retire(old)
        live.meter.live(True)
        self._rename()
        RELOADS.labels(model, "adopted").inc()
        log.info("model %s version %s answers, on %s", model, version, live.provider)

    def _rename(self) -> None:
        """Rebuild the names, tell those who care, and confirm to the other workers."""
        names = dict(self._live)
        for task, model in self._catalog.tasks.items():
            if model in self._live:
                names[task] = self._live[model]
        self._names = names
        for tell in self.on_swap:
            tell()
        on_demand = {
            model: entry.version
            for model, entry in self._catalog.live.items()
            if model not in self._live and model not in self.failures
        }
        self._confirmations.write(
            {name: live.version for name, live in self._live.items()}, on_demand
        )

    def _retire(self, live: Live) -> None:
        """Let a version answer the requests that began with it, then drop it."""
        live.meter.live(False)
        self._retired.append(live)
        task = asyncio.get_running_loop().create_task(self._let_go(live))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _let_go(self, live: Live) -> None:
        # A request that looked this version up may still be waiting for its body, or for its
        # image to be decoded: so long at most.
        hold_s = self.settings.body_timeout_s + self.settings.deadline_s
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), hold_s)
        await live.batcher.close()
        self._retired.remove(live)
        live.meter.flush()

    def _evict(self, keep: str) -> None:
        """Unload the models used longest ago, never a task's, down to `max_loaded`."""
        needed = {keep, *self._catalog.tasks.values(), *self.settings.models}
        spare = sorted((m for m in self._live if m not in needed), key=lambda m: self._live[m].used)
        for model in spare[: max(0, len(self._live) - self.settings.max_loaded)]:
            self._retire(self._live.pop(model))


def _told(error: Exception) -> str:
    """What clients hear of a version that does not load; paths stay in the log."""
    if isinstance(error, _WORDED):
        return str(error)
    named = error.strerror if isinstance(error, OSError) else None
    return f"{named or type(error).__name__}; see the server's log"


def _stamp(path: Path) -> object:
    """What changes whenever a file is replaced."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
