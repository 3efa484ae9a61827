"""Commands the hub has not answered."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from ._errors import MessageTooBig, QueueFull
from ._waiting import Signal
from .protocol import AckMessage

# With or without a connection. Full: `QueueFull` at once, nothing is taken.
_BOUND = 256

# Fields in which null is a value and not an absence.
_NULLABLE = frozenset({"payload", "editedArguments", "output", "data"})


class Command:
    """A command until its answer."""

    __slots__ = ("answer", "id", "kind", "own", "sends", "sent", "session", "text")

    def __init__(self, id: int, kind: str, fields: Mapping[str, Any], *, own: bool) -> None:
        self.id, self.kind, self.own = id, kind, own
        self.sends = 0
        self.sent = False  # and not put back since
        self.session: str | None = fields.get("sessionId")
        # Cancelled: nobody waits any more.
        self.answer: asyncio.Future[AckMessage] = asyncio.get_running_loop().create_future()
        # Written once: a repetition has to be the same.
        given = {name: value for name, value in fields.items() if value is not None or name in _NULLABLE}
        self.text = _encode({"type": kind, "id": id, **given})

    @property
    def attaches(self) -> bool:
        return self.kind in ("create_session", "attach_session")

    def attach_after(self, cursor: str) -> None:
        """If it is an attach: the same, from where the session stands by now."""
        if self.kind == "attach_session":
            self.text = _encode({"type": self.kind, "id": self.id, "sessionId": self.session, "after": cursor})


class Unanswered:
    """In the order they were given, which is the order they are sent again in."""

    def __init__(self) -> None:
        self._commands: dict[int, Command] = {}
        self._last_id = 0

    def add(self, kind: str, fields: Mapping[str, Any], limit: int) -> Command:
        """Takes a command of the program, of at most `limit` bytes."""
        if sum(not command.own and not command.answer.cancelled() for command in self._commands.values()) >= _BOUND:
            raise QueueFull(f"{_BOUND} commands wait for an answer")
        command = Command(self._last_id + 1, kind, fields, own=False)
        if (size := len(command.text.encode())) > limit:
            raise MessageTooBig(f"the command has {size} bytes, and the hub takes {limit}")
        return self._keep(command)

    def add_own(self, kind: str, fields: Mapping[str, Any]) -> Command:
        """Takes a command of the client's own, which nobody waits for."""
        return self._keep(Command(self._last_id + 1, kind, fields, own=True))

    def _keep(self, command: Command) -> Command:
        self._last_id = command.id
        self._commands[command.id] = command
        command.answer.add_done_callback(lambda answer: self._forget_unsent(command))
        return command

    def _forget_unsent(self, command: Command) -> None:
        """One that was sent waits for its answer, or for the next connection, whether or not anybody waits for it."""
        if command.answer.cancelled() and not command.sent:
            self._commands.pop(command.id, None)

    def get(self, id: object) -> Command | None:
        return self._commands.get(id) if type(id) is int else None

    def answer(self, id: object, answer: AckMessage | Exception) -> Command | None:
        """Gives an answer to who waits for it. None: it answers nothing."""
        command = self._commands.pop(id, None) if type(id) is int else None
        if command is not None and not command.answer.done():
            if isinstance(answer, Exception):
                command.answer.set_exception(answer)
                command.answer.exception()  # Nobody has to look at it.
            else:
                command.answer.set_result(answer)
        return command

    def again(self) -> list[Command]:
        """What is to be sent on a new connection: not the client's own, which are made anew, nor what nobody waits for any more."""
        self._commands = {id: command for id, command in self._commands.items() if not command.own and not command.answer.cancelled()}
        return list(self._commands.values())

    def drop_the_largest(self) -> None:
        """The hub ended the connection because of the size of a message."""
        theirs = [command for command in self._commands.values() if not command.own]
        if theirs:
            largest = max(theirs, key=lambda command: len(command.text))
            self.answer(largest.id, MessageTooBig("the hub closed the connection because of its size"))

    def end(self, error: Exception) -> None:
        """Nothing will be answered any more."""
        for id in tuple(self._commands):
            self.answer(id, error)


class Outbox:
    """What is to be said over one connection."""

    def __init__(self) -> None:
        self._waiting: deque[Command] = deque()
        self._put_back: list[Command] = []  # and not answered since
        self._signal = Signal()

    def push(self, command: Command) -> None:
        self._waiting.append(command)
        self._signal.set()

    def put_back(self, command: Command) -> None:
        """The hub had no room for it. It keeps its place: what comes after it in its session is said when it has been answered."""
        command.sent = False
        self._put_back = [other for other in self._put_back if other is not command and not other.answer.done()] + [command]
        later = (place for place, other in enumerate(self._waiting) if command.own or (other.id > command.id and not other.own))
        self._waiting.insert(next(later, len(self._waiting)), command)
        command.answer.add_done_callback(lambda answer: self._signal.set())
        self._signal.set()

    def is_behind(self, command: Command) -> bool:
        """Whether an earlier one of its session was put back and has no answer yet. The client's own wait for nobody."""
        if command.own or command.session is None:
            return False
        earlier = (other for other in self._put_back if other.session == command.session and other.id < command.id)
        return any(not other.answer.done() for other in earlier)

    def first(self) -> Command | None:
        """What may be said now. One that is answered, or that nobody waits for any more, is not said."""
        while self._waiting and self._waiting[0].answer.done():
            self._waiting.popleft()
        return next((command for command in self._waiting if not command.answer.done() and not self.is_behind(command)), None)

    def take(self, command: Command) -> str:
        """It is on its way now."""
        self._waiting.remove(command)
        command.sends += 1
        command.sent = True
        return command.text

    async def changed(self) -> None:
        """Waits until `first` may give another answer."""
        await self._signal.wait()

    def clear(self) -> None:
        """The connection is another one: there, everything is said in its order."""
        self._waiting.clear()
        self._put_back.clear()


def _encode(message: Mapping[str, Any]) -> str:
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
