"""A conversation: its log, followed from here on, and its tasks."""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ._errors import AgentHubError, Detached, HubError, OutcomeUnknown
from ._position import Position, Verdict
from ._waiting import Feed, Once, Signal
from .protocol import (
    AckMessage,
    Event,
    MessageInfo,
    OnBusy,
    SessionAttachedMessage,
    Snapshot,
    SteerWhen,
    TaskInfo,
)
from .task import ENDS, SteerReceipt, Task, TaskOutcome

if TYPE_CHECKING:
    from .hub import Hub

SessionState = Literal["connecting", "live", "replaying", "stale", "closed"]

# What `events()` holds for a program that is slow to take it.
_FEED = 16_384
# Tasks that have ended and are still found by their id.
_ENDED_TASKS = 256
# Before asking again for a session, when the hub does not say how long.
_ATTACH_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Attached:
    """The hub has said from where the session goes on.

    Not `kept`: what was known of the session before is to be forgotten; the snapshot takes its place, or without one, the events from
    `first` on.
    """

    session_id: str
    epoch: str
    kept: bool
    head: int
    first: int
    """The number of the first event that follows."""
    snapshot: Snapshot | None


class Session:
    """A conversation that is followed. Made by `Hub.create` and `Hub.open`."""

    def __init__(self, hub: Hub, session_id: str, position: Position, *, whole: bool, from_start: bool = False) -> None:
        self.hub = hub
        self.id = session_id
        self.ready: Once[None] = Once()
        """Awaited: the session is there and followed. Raises HubError if the hub refused."""
        self.snapshot: Snapshot | None = None
        """The last one that came. What happened since is in the tasks and events."""
        self.ended: str | None = None
        """Why the session has ended, if it has. (A snapshot tells no more than that it has: `ended`.)"""
        self._position = position
        self._position.waiting = True
        self._whole = whole  # every event since the session was made is, or will be, seen here
        self._from_start = from_start
        self._tasks: dict[str, Task] = {}
        self._steers: dict[str, Once[SteerReceipt]] = {}
        self._feeds: weakref.WeakSet[Feed[Event | Attached]] = weakref.WeakSet()
        self._listeners: list[Callable[[Event | Attached], None]] = []
        self._change_listeners: list[Callable[[], None]] = []
        self._told: SessionState = "connecting"
        self._detached_listeners: list[Callable[[Exception], None]] = []
        self._acked = self._attached = self._caught_up = False
        self._idle_gaps = 0  # gaps since an event was applied
        self._signal = Signal()  # of what `wait_live` waits for
        self._later: asyncio.TimerHandle | None = None
        self._error: Exception | None = None

    def __repr__(self) -> str:
        return f"<Session {self.id} {self.state}>"

    @property
    def state(self) -> SessionState:
        """`connecting`: not attached yet; `replaying`: what was missed is coming; `live`; `stale`: the connection is lost, and will come
        back; `closed`: not followed any more."""
        if self._error is not None:
            return "closed"
        if not self._attached:
            return "connecting"
        if self.hub.state in ("connecting", "stale"):
            return "stale"
        return "live" if self._caught_up else "replaying"

    @property
    def cursor(self) -> str | None:
        """Everything up to here has been applied. Give it to `Hub.open` to go on behind it; None before the first answer."""
        return self._position.cursor

    def submit(
        self,
        prompt: str,
        *,
        on_busy: OnBusy | None = None,
        timeout_ms: int | None = None,
        context: str | None = None,
        tools: list[str] | None = None,
        options: Mapping[str, Any] | None = None,
        task_id: str | None = None,
    ) -> Task:
        """A new task, at once; it is sent as soon as there is a connection, and again until the hub has answered.

        One that was refused may be submitted again with its `task_id`; that is another object.
        """
        if self.ended is None:  # Otherwise the hub says what it thinks of it.
            self._check_followed()
        task_id = task_id or str(uuid.uuid4())
        command: dict[str, Any] = {"taskId": task_id, "prompt": prompt, "onBusy": on_busy, "timeoutMs": timeout_ms}
        command |= {"context": context, "tools": tools, "options": None if options is None else dict(options)}
        answer = self.hub._order("submit_task", {"sessionId": self.id} | command).answer
        task = self._told_of(task_id)
        task._here = True
        answer.add_done_callback(task._answered)
        return task

    def task(self, task_id: str) -> Task:
        """The task with this id: one that was submitted here, or anybody's in this session.

        In a session that was opened later than from its start, `finished` raises OutcomeUnknown if nothing is heard of the task by the
        time the session is live: it ended before, or is still to come. If it comes, this method gives another object.
        """
        task = self._tasks.get(task_id) or self._add(Task(self, task_id, "submitted"))
        if self._error is not None:
            task._fail(self._error)
        elif self._caught_up:
            self._give_up_unheard_of(task)
        return task

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks that are known here, oldest first."""
        return tuple(self._tasks.values())

    def events(self) -> Feed[Event | Attached]:
        """Every event applied from now on, exactly once and in order, and an `Attached` wherever the session goes on after a break.

        Who takes them too slowly gets `FellBehind`.
        """
        self._check_followed()
        feed: Feed[Event | Attached] = Feed(_FEED)
        self._feeds.add(feed)
        return feed

    def on_event(self, listener: Callable[[Event | Attached], None]) -> Callable[[], None]:
        """Calls the listener with what `events()` gives, at the moment it is applied. Returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls the listener when `state` has changed. Returns what ends that."""
        self._change_listeners.append(listener)
        return lambda: self._change_listeners.remove(listener) if listener in self._change_listeners else None

    def on_detached(self, listener: Callable[[Exception], None]) -> Callable[[], None]:
        """Calls the listener when the session is not followed any more, with why. Returns what ends that.

        A session that was never `ready` says so there.
        """
        self._detached_listeners.append(listener)
        return lambda: self._detached_listeners.remove(listener) if listener in self._detached_listeners else None

    async def detach(self) -> None:
        """Stops following the session, which goes on at the hub. Its objects here are dead afterwards."""
        self._check_followed()
        answer = self.hub._order("detach_session", {"sessionId": self.id}).answer
        self._fail(Detached(f"session {self.id} was detached"))
        await answer

    async def end(self) -> None:
        """Ends the session: what runs in it is cancelled; its log stays readable."""
        await self._command("end_session", {}, _ended_already)

    async def wait_live(self) -> None:
        """Waits until everything that has happened is known here. Raises what ended the session."""
        while self.state != "live":
            self._check_followed()
            await self._signal.wait()

    # What follows is the hub's and the tasks' to call.

    async def _command(self, kind: str, fields: Mapping[str, Any], done: Callable[[HubError], Awaitable[bool]] | None = None) -> None:
        """Sends a command. `done` says of a repeated one that was refused whether the first one did it."""
        command = self.hub._order(kind, {"sessionId": self.id, **fields})
        try:
            await command.answer
        except HubError as error:
            if command.sends > 1 and done is not None:
                with suppress(AgentHubError):
                    if await done(error):
                        return
            raise

    async def _steer(self, task: str, text: str, when: SteerWhen | None, steer_id: str | None) -> SteerReceipt:
        if self.ended is None:
            self._check_followed()
        steer_id = steer_id or str(uuid.uuid4())
        receipt = self._steers.setdefault(steer_id, Once())
        try:
            await self._command("steer_task", {"taskId": task, "input": text, "when": when, "steerId": steer_id})
            return await receipt
        finally:
            self._steers.pop(steer_id, None)

    def _check_followed(self) -> None:
        if self._error is not None:
            raise self._error

    def _told_of(self, task_id: str) -> Task:
        """The object for a task there is something new of. One that was refused or given up stays as it is."""
        task = self._tasks.get(task_id)
        return self._add(Task(self, task_id, "submitted")) if task is None or task._error is not None else task

    def _give_up_unheard_of(self, *tasks: Task) -> None:
        """Everything that has happened since the session was opened is known: what was not heard of till now may have ended before."""
        for task in tasks:
            if not self._whole and task._unheard_of():
                task._fail(OutcomeUnknown(f"nothing is known of task {task.id} since the session was opened"))

    def _add(self, task: Task) -> Task:
        if len(self._tasks) >= _ENDED_TASKS:
            ended = [known for known, of in self._tasks.items() if of._over]
            for known in ended[: max(0, len(ended) - _ENDED_TASKS)]:
                del self._tasks[known]
        self._tasks[task.id] = task
        return task

    def _answered(self, answer: asyncio.Future[AckMessage]) -> None:
        """The create or attach that the program asked for."""
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Exception):
            self._fail(error)
            return
        self._acked = True
        self._settle()

    def _on_attached(self, message: SessionAttachedMessage) -> None:
        epoch, first, snapshot = message["epoch"], message["from"], message.get("snapshot")
        if self._from_start:
            # The first answer told the epoch; now the whole log can be named.
            self._from_start = False
            self._position = Position(epoch, 0, waiting=True)
            self._attach()
            return
        had_epoch = self._position.epoch is not None
        kept = self._position.attached(epoch, message["recovered"], first)
        if not kept:
            if snapshot is not None:
                self.snapshot = snapshot
            self._replace(snapshot, had_epoch)
        self._attached, self._caught_up = True, False
        self._emit(Attached(self.id, epoch, kept, message["head"], first, snapshot))
        self._remember()
        self._settle()
        if not kept and snapshot is not None and snapshot["session"]["status"] == "ended":
            # The event that says so is behind the snapshot, and nothing follows it.
            self._on_ended("ended")

    def _on_caught_up(self) -> None:
        # Of an attach that a later one has overtaken, none comes.
        self._caught_up = self._attached and not self._position.waiting
        if self._caught_up:
            self._give_up_unheard_of(*self._tasks.values())
        self._signal.set()

    def _on_event(self, event: Event) -> None:
        verdict = self._position.take(event["seq"])
        if verdict is Verdict.GAP:
            self._on_gap()
        if verdict is not Verdict.APPLY:
            return
        self._idle_gaps = 0
        try:
            self._fold(event)
        except (KeyError, TypeError, AttributeError) as error:
            # It counts all the same, and whoever iterates sees it as it is.
            self.hub._problem(ValueError(f"event {event['seq']} of session {self.id} cannot be read: {error!r}"))
        self._emit(event)
        self._remember()
        if event["type"] == "session_ended":
            self._on_ended(str(event["data"].get("reason", "ended")))

    def _fold(self, event: Event) -> None:
        task_id = event.get("taskId")
        if isinstance(task_id, str):
            self._told_of(task_id)._apply(event)
        if event["type"] == "steer_accepted":
            meant = self._tasks.get(event["data"]["steerId"])
            if meant is not None:  # A submit with `on_busy="steer"`.
                meant._finish(TaskOutcome("steered"))
        elif event["type"] == "steer_applied":
            receipt = SteerReceipt(event["data"]["steerId"], "applied", step=event["data"]["step"])
            self._receipt(receipt)
        elif event["type"] == "steer_rejected":
            receipt = SteerReceipt(event["data"]["steerId"], "rejected", reason=event["data"]["reason"])
            self._receipt(receipt)

    def _receipt(self, receipt: SteerReceipt) -> None:
        waiting = self._steers.get(receipt.steer_id)
        if waiting is not None:
            waiting.set(receipt)

    def _on_gap(self) -> None:
        self._caught_up = False
        self._idle_gaps += 1
        if self._idle_gaps == 1:
            self._attach()
        else:
            # A hub that leaves the same gap again is not asked as fast as it answers.
            self._attach_later(min(_ATTACH_AGAIN * 2 ** (self._idle_gaps - 2), 30.0))

    def _on_ended(self, reason: str) -> None:
        self.ended = reason
        # It was there, and was followed to its end: also if the answer to the attach comes after that.
        self.ready.set(None)
        self._fail(Detached(f"session {self.id} has ended ({reason})"))
        if reason == "deleted":
            self.hub._store_cursor(self.id, None)

    def _attach(self) -> None:
        self._later = None
        self.hub._attach(self)

    def _attach_later(self, delay: float) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(delay, self._attach)

    def _attach_refused(self, error: HubError) -> None:
        """An attach of the client's own was refused."""
        if error.retryable:
            self._attach_later(_ATTACH_AGAIN if error.retry_after_ms is None else error.retry_after_ms / 1000)
        else:
            self._fail(error)

    def _on_connection(self) -> None:
        """A new connection begins, or the old one is lost: what was on its way is not any more."""
        self._caught_up = False
        self._position.waiting = True
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _settle(self) -> None:
        if self._acked and self._attached:
            self.ready.set(None)

    def _remember(self) -> None:
        self.hub._store_cursor(self.id, self._position.cursor)

    def _emit(self, item: Event | Attached) -> None:
        for feed in tuple(self._feeds):
            feed.push(item)
        for listener in tuple(self._listeners):
            self.hub._call(listener, item)

    def _replace(self, snapshot: Snapshot | None, had_epoch: bool) -> None:
        """What was known of the tasks does not hold any more."""
        if snapshot is None:
            # The log from its start tells about them.
            for task in self._tasks.values():
                task._forget()
            return
        infos: dict[str, TaskInfo] = {info["taskId"]: info for info in snapshot["tasks"]}
        self._whole = False
        for task_id in infos:
            self._told_of(task_id)
        for task in tuple(self._tasks.values()):
            info = infos.get(task.id)
            if task._over and info is not None and info["status"] not in ENDS:
                # It had ended, and that end is not in the log any more. What was said of it stays said; who asks anew gets another one.
                task = self._tasks[task.id] = Task(self, task.id, "submitted")
            if info is not None or had_epoch:  # Otherwise it is new, and nothing was known.
                task._replace(info, _texts(snapshot["messages"], task.id, info))
        for pending in snapshot["pendingInputs"]:
            self._told_of(pending["taskId"])._ask(pending)
        for receipt in self._steers.values():
            receipt.fail(OutcomeUnknown("the log was replaced before the steering input was applied or rejected"))

    def _tell(self) -> None:
        state = self.state
        if state != self._told:
            self._told = state
            for listener in tuple(self._change_listeners):
                self.hub._call(listener)

    def _fail(self, error: Exception) -> None:
        """It is not followed any more."""
        if self._error is not None:
            return
        self._error = error
        self._on_connection()
        self.hub._forget(self)
        was_ready = self.ready.done()
        self.ready.fail(error)
        self._signal.set()
        for task in self._tasks.values():
            task._fail(error)
        for receipt in self._steers.values():
            receipt.fail(error)
        for feed in tuple(self._feeds):
            feed.end(None if self.ended is not None else error)
        self._tell()
        for listener in tuple(self._detached_listeners if was_ready else ()):
            self.hub._call(listener, error)


async def _ended_already(error: HubError) -> bool:
    return error.code == "already_terminal"


def _texts(messages: list[MessageInfo], task_id: str, info: TaskInfo | None) -> list[tuple[int, str, str]]:
    """What a task has said: where each message begins, its id, its text."""
    said = [(of["seq"], of["messageId"], of["text"]) for of in messages if of["taskId"] == task_id and of["role"] == "assistant"]
    partial = info.get("partial") if info is not None else None
    if partial is not None and all(message != partial["messageId"] for _, message, _ in said):
        said.append((0, partial["messageId"], partial["text"]))
    return said
