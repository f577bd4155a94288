"""One worker process: its parts put together, started, ticking, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from prometheus_client.registry import Collector

from artifacts.store import Store
from service import capture, memory, meters, metrics, sharing
from service.classifier import Classifier
from service.clerk import Clerk
from service.connections import take_over
from service.database import BadLedger, file_url
from service.docs import Docs
from service.feedback import Feedback, Versions
from service.heads import Heads
from service.http import Bodies
from service.keys import KeyRing
from service.ledger import Ledger
from service.models import Models
from service.page import Page
from service.receipts import Signer, load_keys
from service.repository import Repository
from service.settings import Settings
from service.sparing import spare_the_log
from service.totals import Totals
from service.tracing import Tracing
from service.typed import Typed
from service.v1 import V1
from service.v2 import V2

log = logging.getLogger("vitrine")


JOIN_S = 10.0
# What the event loop waits for Python's lock while another thread (the ledger's, a decoder's) has
# it: Python's own 5 ms would be most of a prediction's p99.
SWITCH_S = 0.0005
# A run of 32 images needs some megabytes. As the heap happened to lie, some of them were given back
# to the kernel and faulted in anew: 4 to 60 page faults a run, now 5 to 7. Photographs are larger.
KEPT_BYTES = 16 * 1024 * 1024


class Process:
    """Everything a worker holds, by name; made once, when its application is made."""

    def __init__(self, settings: Settings, store: Store | None = None, device: int = 0) -> None:
        sys.setswitchinterval(SWITCH_S)
        memory.share_arenas()
        memory.keep(KEPT_BYTES)
        self.settings = settings
        # uvicorn words a line for every request before it finds that nobody listens: 4 us.
        access = logging.getLogger("uvicorn.access")
        access.handlers.clear()
        access.propagate = False
        spare_the_log()
        self.draining = False
        self.state_problem = self._state_problem()
        writable = settings.state if not self.state_problem else None
        self.store = store or Store(settings.state)
        self.requests = meters.Requests()
        self.bodies = Bodies(
            limit=settings.max_body_bytes,
            timeout_s=settings.body_timeout_s,
            max_held=settings.max_inflight_bytes,
        )
        keys = load_keys(settings.secret, writable, settings.old_secrets)
        if keys.origin == "ephemeral":
            log.warning("receipts are signed with a key of this process only: %s", keys.problem)
        self.signer = Signer(keys, int(settings.receipt_days * 24 * 3600))
        self.models = Models(self.store, settings, device)
        self.classifier = Classifier(self.models, settings, self.signer)
        self.keys = KeyRing(settings.api_keys, settings.admin_keys)
        self.v1 = V1(self.classifier, settings)
        self.v2 = V2(self.classifier, settings, lambda: self.readiness()[0])
        self.typed = Typed(self.classifier, settings)
        self.repository = Repository(self.models, self.store)
        self.page = Page()
        self.docs = Docs()
        self.ledger = self._ledger()
        self.clerk = Clerk(self.ledger)
        if settings.capture > 0 and writable is not None:
            self.classifier.capture = capture.Capture(
                writable / capture.FOLDER,
                settings.capture,
                max_bytes=settings.capture_max_bytes,
                max_days=settings.capture_days,
            )
        versions = Versions(self.store)
        self.feedback = Feedback(self.models, versions, self.signer, self.clerk)
        totals = Totals(self.ledger, versions.get)
        self.collectors: list[Collector] = [totals]
        self.models.on_swap.append(
            lambda: totals.show([live.manifest for live in self.models.live()])
        )
        self._tasks: list[asyncio.Task[Any]] = []
        self.tracing = Tracing() if settings.tracing else None
        self._lag = meters.Tally(metrics.LAG)
        self._heads = Heads((), settings.head_timeout_s)

    async def start(self) -> None:
        """Begin to load the models and to tick; readiness tells when the models are there.

        A worker shares its port with others, so it hears nobody until it can answer; but one whose
        models take their time comes up all the same, and says so.
        """
        connections = take_over()
        self._heads = Heads(connections, self.settings.head_timeout_s)
        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            sharing.share(Path(folder), connections)
        load = asyncio.create_task(self._load())
        self._tasks = [load, asyncio.create_task(self._tick())]
        self._listen_for_the_end()
        metrics.ASKED.labels(self.settings.execution_provider).set(1)
        await asyncio.wait([load], timeout=JOIN_S)

    async def stop(self) -> None:
        """Answer what was accepted, then let go of everything."""
        for task in self._tasks:
            task.cancel()
        await self.models.close()
        self.classifier.close()
        await asyncio.to_thread(self.clerk.close)
        if self.classifier.capture is not None:
            await asyncio.to_thread(self.classifier.capture.close)
        if self.tracing is not None:
            await asyncio.to_thread(self.tracing.close)
        metrics.READY.set(0)
        self.flush()

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Whether this worker answers predictions, and what an operator should know."""
        ready = self.models.ready and not self.draining
        status = "draining" if self.draining else "ready" if ready else "not ready"
        detail: dict[str, Any] = {
            "status": status,
            "models": {live.name: live.version for live in self.models.live()},
            "execution_provider": sorted({live.provider for live in self.models.live()}),
        }
        if self.models.provider_problem:
            detail["execution_provider_problem"] = self.models.provider_problem
        if not self.models.started:
            detail["loading"] = True
        if self.models.failures:
            detail["failures"] = dict(self.models.failures)
        if self.state_problem:
            detail["state"] = self.state_problem
        elif self.signer.keys.problem:
            detail["receipts"] = self.signer.keys.problem
        return ready, detail

    def flush(self) -> None:
        """Hand the counts of the last moments to prometheus_client."""
        self.requests.flush()
        self._lag.flush()
        metrics.READY.set(self.models.ready and not self.draining)
        for live in self.models.live():
            live.meter.flush(live.batcher.queued)
        for live in self.models.retired():
            live.meter.flush()

    def _ledger(self) -> Ledger:
        """Where labels go; one that cannot be used refuses them, and predictions go on."""
        settings = self.settings
        if not settings.ledger_url and settings.state is None:
            return Ledger("", problem="there is no state folder, and no VITRINE_LEDGER_URL")
        try:
            return Ledger(settings.ledger_url or file_url(settings.state or Path()))
        except BadLedger as error:
            log.error("feedback is refused: %s", error)
            return Ledger("", problem=str(error))

    def _state_problem(self) -> str:
        """Why nothing can be written at run time; empty when it can."""
        state = self.settings.state
        if state is None:
            return "there is no state folder: VITRINE_STATE is empty"
        try:
            state.mkdir(parents=True, exist_ok=True)
            probe = state / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            problem = f"the state folder cannot be written: {error.strerror}"
            log.warning("%s; receipts end with this process, and nothing can be published", problem)
            return problem
        return ""

    async def _load(self) -> None:
        await self.models.start()
        for model, failure in self.models.failures.items():
            log.error("not ready, %s: %s", model, failure)
        # BentoML's heap is large and lasts: full collections over it would stop us for 75-190 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    async def _tick(self) -> None:
        expected = time.perf_counter() + metrics.FLUSH_S
        ticks = 0
        while True:
            await asyncio.sleep(max(0.0, expected - time.perf_counter()))
            now = time.perf_counter()
            self._lag.observe(max(0.0, now - expected))
            expected = now + metrics.FLUSH_S
            try:
                self.flush()
            except Exception:  # a full disk, say: what is counted stays for the next tick
                log.exception("metrics are not written")
            ticks += 1
            if ticks % 4 == 0:
                self._heads.sweep()
            if ticks % 20 == 1:
                metrics.MEMORY.set(metrics.resident_bytes())

    def _listen_for_the_end(self) -> None:
        """On SIGTERM: not ready at once, and stop for real after the lame duck's time."""
        before = signal.getsignal(signal.SIGTERM)
        if not callable(before):  # not under a server, as in a test
            return
        loop = asyncio.get_running_loop()

        def drain() -> None:
            if not self.draining:
                self.draining = True
                loop.call_later(self.settings.lame_duck_s, before, signal.SIGTERM, None)

        with contextlib.suppress(ValueError):  # not the main thread
            loop.add_signal_handler(signal.SIGTERM, drain)
