"""The batcher: every row answered once, in order, within bounds, whatever happens around it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.model import Outputs
from service.batcher import SEARCH_EVERY_S, Batcher, Late, Ran, Refused, RowFailed, TooManyRows
from service.estimate import RunTimes
from service.runner import Pixels, Runner
from service.turns import Turns

BAD = 255  # the fake model fails on a batch with such a row
NAN = 254  # and answers such a row with NaN
SOON = 1000.0


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class FakeModel:
    """Answers row [v] with probability v/1000 of class 0 and energy v; takes `row_s` a row."""

    def __init__(self, clock: Clock, row_s: float = 0.001) -> None:
        self.clock = clock
        self.row_s = row_s
        self.batches: list[list[int]] = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.began = threading.Event()

    def predict(self, pixels: Pixels) -> Outputs:
        self.began.set()
        assert self.may_run.wait(20)
        values = pixels[:, 0].astype(np.float32)
        self.batches.append(pixels[:, 0].tolist())
        self.clock.now += self.row_s * len(pixels)
        if BAD in pixels:
            raise RuntimeError("this row is bad")
        first = np.where(values == NAN, np.nan, values / 1000).astype(np.float32)
        return Outputs(np.stack([first, 1 - first], axis=1), values)


class Notes:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.requests: list[int] = []
        self.waits: list[float] = []

    def batch(self, pixels: Pixels, requests: int, ran_s: float) -> None:
        assert ran_s >= 0
        self.rows.append(len(pixels))
        self.requests.append(requests)

    def waited(self, queued_s: float) -> None:
        self.waits.append(queued_s)


class Bench(NamedTuple):
    """A batcher and what it is made of."""

    clock: Clock
    model: FakeModel
    turns: Turns
    meter: Notes
    batcher: Batcher


def bench(
    *,
    max_batch: int = 8,
    max_queue: int = 64,
    row_s: float = 0.001,
    buckets: Sequence[int] = (),
    beside: Bench | None = None,
) -> Bench:
    """A batcher of its own, or one `beside` another in the same process."""
    clock = Clock() if beside is None else beside.clock
    turns = Turns(clock) if beside is None else beside.turns
    model, meter = FakeModel(clock, row_s), Notes()
    batcher = Batcher(
        turns,
        model.predict,
        max_batch=max_batch,
        max_queue=max_queue,
        meter=meter,
        buckets=buckets,
    )
    return Bench(clock, model, turns, meter, batcher)


def rows(*values: int) -> Pixels:
    return np.array([[value] for value in values], np.uint8)


def values(ran: Ran) -> list[int]:
    assert ran.outputs.energy is not None
    return [round(v) for v in ran.outputs.energy.tolist()]


async def settle(futures: Sequence[asyncio.Future[Ran]]) -> list[Ran | BaseException]:
    return await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 20)


async def test_an_idle_model_runs_a_request_at_once_and_alone() -> None:
    it = bench()
    ran = await it.batcher.submit(rows(7), SOON)
    assert values(ran) == [7]
    assert it.model.batches == [[7]]
    assert ran.queued_s == 0.0
    assert ran.ran_s == pytest.approx(0.001)


async def test_what_arrives_while_a_batch_runs_leaves_together() -> None:
    it = bench(row_s=0.02)
    it.batcher.measure(rows(0))  # so that it is known to be slow, and runs on the thread
    it.model.batches.clear()
    it.model.may_run.clear()
    it.model.began.clear()
    first = it.batcher.submit(rows(1), SOON)
    await asyncio.to_thread(it.model.began.wait, 20)
    others = [it.batcher.submit(rows(value), SOON) for value in (2, 3, 4)]
    it.model.may_run.set()
    answers = await settle([first, *others])
    assert [values(ran) for ran in answers if isinstance(ran, Ran)] == [[1], [2], [3], [4]]
    assert it.model.batches == [[1], [2, 3, 4]]
    assert it.meter.requests == [1, 3]


async def test_a_large_request_is_split_and_joined_in_order() -> None:
    it = bench(max_batch=4)
    ran = await it.batcher.submit(rows(*range(10)), SOON)
    assert values(ran) == list(range(10))
    assert it.meter.rows == [4, 4, 2]
    assert it.meter.requests == [1, 1, 1]
    assert it.meter.waits == [0.0]


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    it = bench(max_queue=8)
    for value in range(8):
        it.batcher.submit(rows(value), SOON)
    with pytest.raises(Refused, match="8 rows are waiting"):
        it.batcher.submit(rows(9), SOON)
    with pytest.raises(TooManyRows, match="9 rows in one request"):
        it.batcher.submit(rows(*range(9)), SOON)
    await it.batcher.close()
    assert it.batcher.queued == 0


async def test_what_cannot_be_done_in_time_is_refused_on_arrival() -> None:
    it = bench(max_batch=8, row_s=1.0)
    it.batcher.measure(rows(*range(8)))
    waiting = it.batcher.submit(rows(*range(8)), it.clock.now + 20)
    with pytest.raises(Refused, match="too late") as refusal:
        it.batcher.submit(rows(*range(8)), it.clock.now + 15)
    assert refusal.value.retry_after_s == pytest.approx(16.0)
    assert len(values(await waiting)) == 8


async def test_an_estimate_that_is_far_too_long_does_not_shut_the_model_for_good() -> None:
    it = bench(row_s=0.001)
    it.batcher.times.learn(1, 3600.0)
    it.batcher.times.learn(8, 3600.0)
    for _ in range(100):
        assert values(await it.batcher.submit(rows(5), it.clock.now + 2.0)) == [5]
    assert it.batcher.times.expect(1) < 1.0
    assert it.batcher.times.expect(8) < 32.0


async def test_a_request_whose_deadline_passes_in_the_queue_is_answered_late() -> None:
    it = bench()
    future = it.batcher.submit(rows(1), 5.0)
    it.clock.now = 6.0
    with pytest.raises(Late):
        await future
    assert it.model.batches == []
    assert it.batcher.queued == 0


async def test_a_cancelled_request_leaves_the_queue_unrun() -> None:
    it = bench(max_queue=16, max_batch=4)
    kept = it.batcher.submit(rows(1), SOON)
    dropped = it.batcher.submit(rows(*range(2, 16)), SOON)
    dropped.cancel()
    late_comer = it.batcher.submit(rows(*range(100, 112)), SOON)  # fits only without it
    assert values(await kept) == [1]
    assert values(await late_comer) == list(range(100, 112))
    assert sum(it.meter.rows) == 13


@pytest.mark.parametrize("bad", [BAD, NAN])
async def test_a_failing_row_fails_alone(bad: int) -> None:
    it = bench()
    futures = [it.batcher.submit(rows(v), SOON) for v in (1, 2, bad, 4, 5)]
    answers = await settle(futures)
    assert isinstance(answers[2], RowFailed)
    good = [ran for ran in answers if isinstance(ran, Ran)]
    assert [values(ran) for ran in good] == [[1], [2], [4], [5]]


async def test_a_model_that_fails_every_row_costs_a_bounded_number_of_runs() -> None:
    it = bench(max_batch=64)
    answers = await settle([it.batcher.submit(rows(BAD), SOON) for _ in range(64)])
    assert all(isinstance(answer, RowFailed) for answer in answers)
    assert len(it.model.batches) <= 1 + 4 * 7


async def test_a_model_that_raises_on_the_thread_does_not_stop_the_others() -> None:
    one = bench(row_s=0.05)
    two = bench(beside=one)
    for it in (one, two):
        it.batcher.measure(rows(0))
    failing = one.batcher.submit(rows(BAD), SOON)
    answers = await settle([failing, two.batcher.submit(rows(3), SOON)])
    assert isinstance(answers[0], RowFailed)
    assert isinstance(answers[1], Ran)
    assert values(await one.batcher.submit(rows(4), SOON)) == [4]


async def test_rows_that_do_not_fit_together_fail_and_the_next_are_answered() -> None:
    it = bench()
    odd = np.zeros((1, 2), np.uint8)
    answers = await settle([it.batcher.submit(rows(1), SOON), it.batcher.submit(odd, SOON)])
    assert all(isinstance(answer, RowFailed) for answer in answers)
    assert values(await it.batcher.submit(rows(2), SOON)) == [2]


async def test_a_model_that_answers_too_many_rows_has_failed() -> None:
    def predict(pixels: Pixels) -> Outputs:
        return Outputs(np.full((len(pixels) + 1, 2), 0.5, np.float32), None)

    batcher = Batcher(Turns(Clock()), predict, max_batch=4, max_queue=9, meter=Notes())
    answers = await settle([batcher.submit(rows(1, 2), SOON)])
    assert isinstance(answers[0], RowFailed)


async def test_models_take_turns() -> None:
    one = bench(max_batch=2)
    two = bench(max_batch=2, beside=one)
    order: list[str] = []

    def noting(name: str) -> Callable[[object], None]:
        return lambda _: order.append(name)

    futures = []
    for name, it in (("one", one), ("two", two)):
        for value in range(3):
            future = it.batcher.submit(rows(value, value), SOON)
            future.add_done_callback(noting(name))
            futures.append(future)
    await settle(futures)
    assert order == ["one", "two"] * 3


async def test_batches_are_padded_to_a_bucket_where_there_are_buckets() -> None:
    it = bench(max_batch=8, buckets=(1, 2, 4, 8))
    futures = [it.batcher.submit(rows(value), SOON) for value in (1, 2, 3)]
    answers = await settle(futures)
    assert [values(ran) for ran in answers if isinstance(ran, Ran)] == [[1], [2], [3]]
    assert it.model.batches == [[1, 2, 3, 0]]
    assert it.meter.rows == [3]


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    it = bench(max_batch=2)
    futures = [it.batcher.submit(rows(value), SOON) for value in range(7)]
    await asyncio.wait_for(it.batcher.close(), 20)
    assert [values(future.result()) for future in futures] == [[value] for value in range(7)]
    with pytest.raises(Refused, match="stopping"):
        it.batcher.submit(rows(1), SOON)
    it.turns.close()


async def test_closing_waits_for_a_run_on_the_thread() -> None:
    it = bench(row_s=0.05)
    it.batcher.measure(rows(0))
    it.model.may_run.clear()
    it.model.began.clear()
    future = it.batcher.submit(rows(9), SOON)
    await asyncio.to_thread(it.model.began.wait, 20)
    closing = asyncio.create_task(it.batcher.close())
    it.model.may_run.set()
    await asyncio.wait_for(closing, 20)
    assert values(future.result()) == [9]
    it.turns.close()


requests = st.lists(
    st.tuples(
        st.integers(1, 12),  # rows
        st.sampled_from(["good", "good", "good", "bad", "cancelled", "impatient"]),
        st.booleans(),  # let the loop run before the next
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=150)
@given(
    requests=requests,
    max_batch=st.integers(1, 9),
    max_queue=st.integers(1, 40),
    bucketed=st.booleans(),
)
def test_every_row_is_answered_exactly_once_in_order_within_bounds(
    requests: list[tuple[int, str, bool]], max_batch: int, max_queue: int, bucketed: bool
) -> None:
    async def run() -> None:
        it = bench(
            max_batch=max_batch,
            max_queue=max_queue,
            buckets=[1, 2, 4, 8, 16] if bucketed else (),
        )
        sent: list[tuple[list[int], str, asyncio.Future[Ran]]] = []
        value = 0
        for count, kind, pause in requests:
            own = [(value + i) % 250 for i in range(count)]
            value += count
            if kind == "bad":
                own[-1] = BAD
            deadline = it.clock.now if kind == "impatient" else SOON
            try:
                future = it.batcher.submit(rows(*own), deadline)
            except Refused:
                assert it.batcher.queued + count > max_queue or kind == "impatient"
                continue
            assert it.batcher.queued <= max_queue
            if kind == "cancelled":
                future.cancel()
            if kind == "impatient":
                it.clock.now += 0.0001
            sent.append((own, kind, future))
            if pause:
                await asyncio.sleep(0)
        await asyncio.wait_for(it.batcher.close(), 20)
        for own, kind, future in sent:
            assert future.done()
            if kind == "cancelled":
                assert future.cancelled()
            elif kind == "impatient":
                assert isinstance(future.exception(), Late)
            elif kind == "bad":
                assert isinstance(future.exception(), RowFailed)
            elif future.exception() is None:
                assert values(future.result()) == own
            else:  # the search for bad rows is bounded: with many of them a neighbour may suffer
                assert isinstance(future.exception(), RowFailed)
                assert sum(kind == "bad" for _, kind, _ in sent) > 1
        assert all(len(batch) <= (16 if bucketed else max_batch) for batch in it.model.batches)
        assert all(count <= max_batch for count in it.meter.rows)
        assert it.batcher.queued == 0

    asyncio.run(run())


@given(st.lists(st.sampled_from([0, 1, 2, BAD]), min_size=1, max_size=70))
def test_rows_that_fail_are_told_apart_from_those_that_do_not(batch: list[int]) -> None:
    model = FakeModel(Clock())
    run = Runner(model.predict).run([rows(*batch)])
    failed = [False] * len(batch) if run.failed is None else run.failed.tolist()
    bad = [value == BAD for value in batch]
    assert all(marked for marked, is_bad in zip(failed, bad, strict=True) if is_bad)
    if sum(bad) <= 2:
        assert failed == bad
    if run.outputs is not None and run.outputs.energy is not None:
        for at, marked in enumerate(failed):
            assert marked or run.outputs.energy[at] == batch[at]
    assert len(model.batches) <= 1 + 4 * len(batch).bit_length()


@given(
    st.lists(st.tuples(st.integers(1, 64), st.floats(1e-5, 10)), min_size=1, max_size=40),
    st.integers(1, 64),
)
def test_an_estimate_lies_within_what_was_measured(
    measured: list[tuple[int, float]], asked: int
) -> None:
    times = RunTimes(64)
    for count, seconds in measured:
        times.learn(count, seconds)
    quickest = min(seconds for _, seconds in measured)
    slowest = max(seconds for _, seconds in measured)
    assert quickest * 0.99 <= times.expect(asked) <= 64 * slowest


def test_one_stop_of_the_machine_is_no_trend() -> None:
    times = RunTimes(8)
    times.warm(1, 0.5)
    times.warm(1, 0.01)  # the first run of a model is slow
    assert times.expect(1) == 0.01
    times.learn(1, 30.0)
    assert times.expect(1) < 0.02


async def test_a_full_queue_is_told_before_a_body_is_read() -> None:
    it = bench(max_batch=2, max_queue=4)
    it.batcher.admit()
    waiting = [it.batcher.submit(rows(n), SOON) for n in range(4)]
    with pytest.raises(Refused):
        it.batcher.admit()
    waiting[0].cancel()
    with pytest.raises(Refused):  # a queue is not searched for each request that it refuses
        it.batcher.admit()
    it.clock.now += SEARCH_EVERY_S
    it.batcher.admit()
    await settle(waiting)
