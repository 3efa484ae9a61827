"""How long to wait before connecting again."""

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
