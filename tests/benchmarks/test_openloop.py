"""The load generator counts what a real server answers, from the moment a request was due."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.openloop import Stream, run

REQUEST = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
Answer = Callable[[int], bytes | None]  # number of the request -> answer; None: hang up


def _reply(status: int, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\n%sContent-Length: 2\r\n\r\nok" % (status, headers)


@contextmanager
def serving(answer: Answer) -> Iterator[int]:
    """A server on one thread for each connection; yields its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    numbers = iter(range(1_000_000))

    def talk(connection: socket.socket) -> None:
        with connection:
            while connection.recv(65536):
                reply = answer(next(numbers))
                if reply is None:
                    return
                connection.sendall(reply)
                if b"close" in reply:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed: the test is over
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _stream(rate: float = 200.0) -> Stream:
    return Stream(name="s", requests=[REQUEST], rate=rate)


def test_every_answer_is_counted_by_its_status() -> None:
    with serving(lambda n: _reply(200 if n % 2 else 429)) as port:
        answers = run(port, [_stream()], seconds=0.5, connections=4).streams["s"]
    assert answers.sent == sum(answers.statuses.values()) > 50
    assert answers.bad == answers.statuses[429]
    assert len(answers.latencies()) == answers.statuses[200]
    assert len(answers.on_the_wire(good=False)) == answers.statuses[429]


def test_a_stall_is_paid_by_everyone_who_was_due_during_it() -> None:
    def answer(number: int) -> bytes:
        if number == 0:
            time.sleep(0.3)  # the stall itself
        return _reply(200)

    with serving(answer) as port:
        answers = run(port, [_stream()], seconds=0.5, connections=1).streams["s"]
    assert np.median(answers.latencies()) > 0.05  # a closed loop would have seen one slow request
    assert np.median(answers.on_the_wire(good=True)) < 0.05


def test_a_connection_that_is_closed_is_opened_anew() -> None:
    with serving(lambda _: _reply(200, b"Connection: close\r\n")) as port:
        answers = run(port, [_stream(50)], seconds=0.5, connections=2).streams["s"]
    assert answers.bad == 0
    assert answers.statuses[200] == answers.sent


def test_a_request_without_an_answer_is_lost() -> None:
    with serving(lambda n: None if n == 3 else _reply(200)) as port:
        answers = run(port, [_stream(50)], seconds=0.5, connections=2).streams["s"]
    assert answers.lost == 1


@pytest.mark.parametrize("even", [True, False])
def test_the_offered_rate_is_the_one_asked_for(even: bool) -> None:
    stream = Stream(name="s", requests=[REQUEST], rate=1000.0, even=even)
    assert len(stream.times(20.0, np.random.default_rng(0))) == pytest.approx(20_000, rel=0.03)
