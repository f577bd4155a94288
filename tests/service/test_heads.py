"""Which connections are closed: those that owe a request's head for too long, and no other."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.heads import Heads


@dataclass(eq=False)
class Cycle:
    """A request and its answer, as uvicorn keeps them."""

    response_complete: bool = False


@dataclass(eq=False)
class Connection:
    """A connection, as uvicorn keeps it; its own transport."""

    cycle: Cycle | None = None
    timeout_keep_alive_task: object | None = None
    closed: bool = False
    transport: Connection = field(init=False)

    def __post_init__(self) -> None:
        self.transport = self

    def close(self) -> None:
        self.closed = True


class Watched:
    """Connections at a time of ours."""

    def __init__(self, *connections: Connection) -> None:
        self.now = 0.0
        self.heads = Heads(connections, 10.0, lambda: self.now)
        self.heads.sweep()

    def after(self, seconds: float) -> int:
        self.now += seconds
        return self.heads.sweep()


def test_a_connection_without_a_whole_head_is_closed_in_time_and_not_before() -> None:
    silent = Connection()
    watched = Watched(silent)
    assert watched.after(9.0) == 0
    assert watched.after(1.0) == 1
    assert silent.closed


def test_a_request_that_takes_long_is_left_alone() -> None:
    busy = Connection(Cycle())
    watched = Watched(busy)
    assert watched.after(1000.0) == watched.after(1000.0) == 0
    assert not busy.closed


def test_an_idle_connection_is_left_to_the_servers_own_timer() -> None:
    idle = Connection(Cycle(response_complete=True), timeout_keep_alive_task=object())
    assert Watched(idle).after(1000.0) == 0


def test_half_of_a_second_head_is_no_better() -> None:
    half = Connection(Cycle(response_complete=True))
    assert Watched(half).after(10.0) == 1


def test_a_head_that_arrived_starts_the_time_anew() -> None:
    slow = Connection(Cycle(response_complete=True))
    watched = Watched(slow)
    assert watched.after(9.0) == 0
    slow.cycle = Cycle(response_complete=True)  # a whole request, between two looks
    assert watched.after(9.0) == 0
    assert watched.after(9.0) == 0
    assert watched.after(1.0) == 1
