"""A stranger cannot fill the disk with log lines."""

from __future__ import annotations

import logging

from service.sparing import MAX_KINDS, Sparing


class Log:
    """A filter at a time of ours, and what it lets pass."""

    def __init__(self) -> None:
        self.now = 0.0
        self._filter = Sparing(60.0, lambda: self.now)

    def write(self, text: str, *values: object, level: int = logging.WARNING) -> str | None:
        """The line as it is written; None where it is held back."""
        record = logging.LogRecord("uvicorn.error", level, __file__, 1, text, values, None)
        return record.getMessage() if self._filter.filter(record) else None


def test_the_first_line_passes_and_its_repetitions_once_a_minute_with_their_number() -> None:
    log = Log()
    assert log.write("bad request of %s", "a") == "bad request of a"
    for _ in range(1000):
        assert log.write("bad request of %s", "b") is None
    log.now = 60.0
    said = "bad request of c (1000 more of these were not written)"
    assert log.write("bad request of %s", "c") == said
    assert log.write("bad request of %s", "d") is None
    log.now = 200.0
    assert log.write("bad request of %s", "e") == (
        "bad request of e (1 more of these were not written)"
    )


def test_what_is_told_of_a_client_makes_no_other_line() -> None:
    log = Log()
    assert log.write("Task exception was never retrieved, the future: <a>") is not None
    assert log.write("Task exception was never retrieved, the future: <b>") is None


def test_other_lines_pass_meanwhile() -> None:
    log = Log()
    assert log.write("one") == "one"
    assert log.write("two") == "two"
    assert [log.write("started", level=logging.INFO) for _ in range(3)] == ["started"] * 3


def test_a_percent_sign_in_what_was_held_back_does_no_harm() -> None:
    log = Log()
    log.write("%s", "100%d")
    log.write("%s", "100%d")
    log.now = 60.0
    assert log.write("%s", "100%d") == "100%d (1 more of these were not written)"


def test_countless_kinds_of_lines_are_not_remembered_for_ever() -> None:
    log = Log()
    for number in range(10 * MAX_KINDS):
        log.write(f"line {number}")
    assert len(log._filter._passed) <= MAX_KINDS
