"""Where a reader stands in a session's log, and what that means for the next event."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_CURSOR = re.compile(r"([a-z0-9]{1,32})\.(0|[1-9][0-9]{0,17})")


class Verdict(enum.Enum):
    """What to do with an event."""

    APPLY = enum.auto()
    """It is the next one."""
    IGNORE = enum.auto()
    """It was applied before, or stands behind a gap that is being filled."""
    GAP = enum.auto()
    """Something is missing before it: attach again behind the cursor."""


@dataclass(slots=True)
class Position:
    """The client rule: apply what comes next, ignore what was seen, attach again over a gap."""

    epoch: str | None = None
    last: int = 0
    waiting: bool = False
    """Events are passed over until the answer to the attach that is on its way."""

    @classmethod
    def at(cls, cursor: str) -> Position:
        """Behind a cursor. A text that is none begins nowhere: the hub answers it with a snapshot."""
        read = _CURSOR.fullmatch(cursor)
        return cls(read[1], int(read[2])) if read else cls()

    @property
    def cursor(self) -> str | None:
        """What to attach behind; None before the first answer."""
        return None if self.epoch is None else f"{self.epoch}.{self.last}"

    def attached(self, epoch: str, recovered: bool, first: int) -> bool:
        """Takes in the answer to an attach. False: what was applied does not hold any more.

        A repeated `create_session` replays the log from its start; what was applied of it stays applied.
        """
        kept = recovered and self.epoch in (None, epoch) and first <= self.last + 1
        if not kept:
            self.last = max(first - 1, 0)
        self.epoch, self.waiting = epoch, False
        return kept

    def take(self, seq: int) -> Verdict:
        if self.waiting or seq <= self.last:
            return Verdict.IGNORE
        if seq > self.last + 1:
            self.waiting = True
            return Verdict.GAP
        self.last = seq
        return Verdict.APPLY
