"""How long to wait: before connecting again, and before the next command."""

from __future__ import annotations

import random
from collections.abc import Callable


def jittered(first: float = 0.5, most: float = 30.0) -> Callable[[int], float]:
    """Seconds before attempt 0, 1, 2, …: at random below a bound that doubles from `first` to `most`, as the protocol asks.

    At random from zero on, so that clients that were cut together do not come back together.
    """
    if first <= 0 or most < first:
        raise ValueError("expected 0 < first <= most")

    def wait(attempt: int) -> float:
        return random.uniform(0, min(first * 2 ** min(attempt, 30), most))

    return wait


# A hub takes 60 messages at once and 20 a second from one socket, and closes those that do not care. A little is left for pings.
_AT_ONCE = 48
_A_SECOND = 18


class Pace:
    """A bucket that fills again as time passes."""

    def __init__(self, now: float) -> None:
        self._left, self._filled_at = float(_AT_ONCE), now

    def take(self, now: float) -> float:
        """Takes one out and returns 0, or the seconds until there is one."""
        self._left = min(_AT_ONCE, self._left + (now - self._filled_at) * _A_SECOND)
        self._filled_at = now
        if self._left < 1:
            return (1 - self._left) / _A_SECOND
        self._left -= 1
        return 0.0
