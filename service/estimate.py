"""How long a run of so many rows should take, learned from the runs there were."""

from __future__ import annotations

FORGET = 0.1  # weight of the newest run time
SPIKE = (
    4.0  # a run counts for at most so many times the estimate: one stop of the machine is no trend
)
SPIKE_FLOOR_S = 0.001


class RunTimes:
    """Seconds of a run by size class: class i holds runs of more than 2**(i-1), up to 2**i rows.

    Requests are refused on these estimates, and a size that is refused is not run: so an estimate
    that is far too long must not rest on its own class. Time grows at most in proportion to rows;
    what a class learns therefore bounds the larger ones.
    """

    def __init__(self, max_rows: int) -> None:
        self._seconds: list[float | None] = [None] * ((max_rows - 1).bit_length() + 1)

    def warm(self, rows: int, ran_s: float) -> None:
        """A run before the model is in use: the quickest counts, since first runs are slow."""
        at = (rows - 1).bit_length()
        before = self._seconds[at]
        self._seconds[at] = ran_s if before is None else min(before, ran_s)

    def learn(self, rows: int, ran_s: float) -> None:
        """A run of `rows` took `ran_s`."""
        seconds = self._seconds
        at = (rows - 1).bit_length()
        before = seconds[at]
        if before is None:
            new = ran_s
        else:
            new = before + FORGET * (min(ran_s, SPIKE * before + SPIKE_FLOOR_S) - before)
        seconds[at] = new
        # Twice for the width of a class, twice for what outgrows a cache.
        limit = 4 * new
        for larger in range(at + 1, len(seconds)):
            limit += limit
            known = seconds[larger]
            if known is not None and known > limit:
                seconds[larger] = limit

    def expect(self, rows: int) -> float:
        """How long `rows` (at least 1) should take; 0 while nothing was learned."""
        at = (rows - 1).bit_length()
        known = self._seconds[at]
        if known is not None:
            return known
        nearest = min(
            (i for i, seconds in enumerate(self._seconds) if seconds is not None),
            key=lambda i: abs(i - at),
            default=None,
        )
        if nearest is None:
            return 0.0
        return float((self._seconds[nearest] or 0.0) * max(1.0, rows / 2**nearest))
