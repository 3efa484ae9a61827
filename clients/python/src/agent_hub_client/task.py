"""A unit of work in a session."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from ._errors import FellBehind, HubError, OutcomeUnknown
from ._waiting import Once, Signal
from .protocol import AckMessage, Event, InputKind, InputOutcome, InputRequested, InputResolved, SteerWhen, TaskError, TaskInfo

if TYPE_CHECKING:
    from .session import Session

TaskState = Literal["submitted", "queued", "running", "suspended", "completed", "failed", "cancelled", "timeout", "refused", "steered"]
"""As the hub has it; and `submitted`: it has not said yet; `refused`: it would not take it; `steered`: with `on_busy="steer"`, the prompt
went into the task that was running and is none of its own."""

UNSET: Any = object()
"""Not given; None is a value of its own."""

# The events of one task that are kept for who iterates over it. More: who has not come so far gets `FellBehind`.
_EVENTS = 16_384

_ENDS: dict[str, TaskState] = {
    "task_completed": "completed",
    "task_failed": "failed",
    "task_cancelled": "cancelled",
    "task_timeout": "timeout",
}
ENDS = frozenset(_ENDS.values())


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """How a task ended."""

    status: TaskState
    result: Any = None
    """The exact text of the last message, if it was completed."""
    partial: str | None = None
    """The text until then, if it was not."""
    error: TaskError | None = None
    """Why, if it failed."""


@dataclass(frozen=True, slots=True)
class SteerReceipt:
    """What became of a steering input."""

    steer_id: str
    outcome: Literal["applied", "rejected"]
    step: int | None = None
    """Before whose model call it entered, if it was applied."""
    reason: str | None = None
    """Why not, if it was rejected."""


@dataclass(frozen=True, slots=True)
class PendingInput:
    """A question that waits for a person."""

    task: Task
    request_id: str
    kind: InputKind
    """`approval` of a tool call, or `input`."""
    prompt: str | None = None
    schema: Any = None
    """What the payload must look like (JSON Schema)."""
    call_id: str | None = None
    tool: str | None = None
    """For an approval: the tool to be called and its arguments, if the call is known here."""
    arguments: Any = None
    expires_at: str | None = None

    async def respond(self, outcome: InputOutcome = "accept", *, payload: Any = UNSET, edited_arguments: Any = UNSET) -> None:
        """Answers. The first answer wins; a later one raises HubError `already_resolved`."""
        command: dict[str, Any] = {"taskId": self.task.id, "requestId": self.request_id, "outcome": outcome}
        given = {"payload": payload, "editedArguments": edited_arguments}
        command |= {name: value for name, value in given.items() if value is not UNSET}

        async def done(error: HubError) -> bool:
            if error.code not in ("already_resolved", "already_terminal"):
                return False
            await self.task.session.wait_live()
            return self.task._was_resolved(command)

        await self.task.session._command("respond_input", command, done)


class Task:
    """A unit of work. Await `accepted` and `finished`, iterate over its events, read `text()` at any time.

    Made by `Session.submit` and `Session.task`.
    """

    def __init__(self, session: Session, task_id: str, status: TaskState) -> None:
        self.session = session
        self.id = task_id
        self.status: TaskState = status
        self.accepted: Once[None] = Once()
        """Awaited: the hub has taken the task, durably. Raises HubError if it refused."""
        self.finished: Once[TaskOutcome] = Once()
        """Awaited: how the task ended. Raises only if that cannot be known any more (or the task was refused)."""
        self._texts: list[tuple[int, str, str]] = []  # seq, message, text
        self._calls: dict[str, tuple[str, Any]] = {}
        self._inputs: dict[str, PendingInput] = {}
        self._resolved: dict[str, InputResolved] = {}
        self._events: deque[Event] = deque(maxlen=_EVENTS)
        self._seen = 0  # events ever put into _events
        self._here = False  # submitted by this program
        self._over = False  # nothing will be put in any more
        self._error: Exception | None = None
        self._signal = Signal()

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.status}>"

    def text(self) -> str:
        """What it has said so far: its messages, with an empty line between two. It grows, except over text that a crash made void."""
        messages: dict[str, list[str]] = {}
        for _, message, text in self._texts:
            messages.setdefault(message, []).append(text)
        return "\n\n".join("".join(pieces) for pieces in messages.values())

    @property
    def inputs(self) -> tuple[PendingInput, ...]:
        """Questions of this task that wait for an answer."""
        return tuple(self._inputs.values())

    def __aiter__(self) -> TaskEvents:
        """Its events, from the first one known here to the terminal one. Each call begins anew."""
        return TaskEvents(self)

    async def cancel(self, reason: str | None = None) -> None:
        """Returns: it ends as cancelled. Raises HubError `already_terminal`: it had ended."""

        async def done(error: HubError) -> bool:
            return error.code == "already_terminal" and (await self.finished).status == "cancelled"

        await self.session._command("cancel_task", {"taskId": self.id, "reason": reason}, done)

    async def steer(self, text: str, *, when: SteerWhen | None = None, steer_id: str | None = None) -> SteerReceipt:
        """Puts in a word: before its next model call, or at once (`when="now"`). Returns when it has been applied or rejected."""
        return await self.session._steer(self.id, text, when, steer_id)

    async def suspend(self, reason: str | None = None) -> None:
        """Stops it until `resume`."""
        await self.session._command("suspend_task", {"taskId": self.id, "reason": reason}, self._is_now("suspended"))

    async def resume(self, data: Any = UNSET, *, step_id: str | None = None) -> None:
        """Lets it go on after `suspend`."""
        command: dict[str, Any] = {"taskId": self.id, "stepId": step_id}
        await self.session._command("resume_task", command if data is UNSET else command | {"data": data}, self._is_now("running"))

    async def tool_result(self, call_id: str, output: Any = UNSET, *, error: str | None = None) -> None:
        """Gives the result of a tool call that this program executes: an output (None is one), or an error."""
        if (output is UNSET) == (error is None):
            raise ValueError("expected either an output or an error")
        result = {"error": error} if output is UNSET else {"output": output}
        await self.session._command("tool_result", {"taskId": self.id, "callId": call_id} | result)

    def _is_now(self, status: TaskState) -> Callable[[HubError], Awaitable[bool]]:
        async def done(error: HubError) -> bool:
            if error.code != "busy":
                return False
            await self.session.wait_live()
            return self.status == status

        return done

    def _was_resolved(self, answer: dict[str, Any]) -> bool:
        """Whether a request was answered with this, by us."""
        resolved = self._resolved.get(answer["requestId"])
        if resolved is None or self.session.hub.welcome is None or resolved["by"] != self.session.hub.welcome["user"]:
            return False
        return all(resolved.get(name) == answer.get(name) for name in ("outcome", "payload", "editedArguments"))

    # What follows is the session's to call.

    def _answered(self, answer: asyncio.Future[AckMessage]) -> None:
        """The answer to the submit."""
        if answer.cancelled():
            return
        error = answer.exception()
        if isinstance(error, Exception):
            self._fail(error)
        elif answer.result().get("taskId", self.id) != self.id:
            # It steers that one. The event that says so may be covered by a snapshot.
            self._finish(TaskOutcome("steered"))
        else:
            self.accepted.set(None)

    def _unheard_of(self) -> bool:
        """Whether nothing is known of it but its id."""
        return not self._here and not self._over and self._seen == 0 and self.status == "submitted"

    def _apply(self, event: Event) -> None:
        """Takes in one of its events, exactly once and in order."""
        self._events.append(event)
        self._seen += 1
        try:
            self._fold(event)
        finally:
            self._signal.set()

    def _fold(self, event: Event) -> None:
        self.accepted.set(None)
        if event["type"] == "task_queued":
            self.status = "queued"
        elif event["type"] in ("task_started", "task_resumed"):
            self.status = "running"
        elif event["type"] == "task_suspended":
            self.status = "suspended"
        elif event["type"] == "token":
            self._texts.append((event["seq"], event["data"]["messageId"], event["data"]["token"]))
        elif event["type"] == "message":
            if event["data"]["role"] == "assistant":
                message = event["data"]["messageId"]
                self._texts = [piece for piece in self._texts if piece[1] != message]
                self._texts.append((event["seq"], message, event["data"]["text"]))
        elif event["type"] == "task_recovering":
            self.status = "queued"
            void = event["data"]["discardAfter"]
            self._texts = [piece for piece in self._texts if piece[0] <= void]
        elif event["type"] == "tool_call":
            self._calls[event["data"]["callId"]] = (event["data"]["tool"], event["data"]["arguments"])
        elif event["type"] == "input_requested":
            self._ask(event["data"])
        elif event["type"] == "input_resolved":
            self._inputs.pop(event["data"]["requestId"], None)
            self._resolved[event["data"]["requestId"]] = event["data"]
        elif event["type"] in _ENDS:
            self._end(event)

    def _ask(self, request: InputRequested) -> None:
        tool, arguments = self._calls.get(request.get("callId", ""), (None, None))
        self._inputs[request["requestId"]] = PendingInput(
            task=self,
            request_id=request["requestId"],
            kind=request["kind"],
            prompt=request.get("prompt"),
            schema=request.get("schema"),
            call_id=request.get("callId"),
            tool=tool,
            arguments=arguments,
            expires_at=request.get("expiresAt"),
        )

    def _end(self, event: Event) -> None:
        data = cast("dict[str, Any]", event["data"])
        error: TaskError | None = None
        if event["type"] == "task_failed":
            error = {"code": event["data"]["code"], "message": event["data"]["message"]}
            self._keep_void_text(data)
        outcome = TaskOutcome(_ENDS[event["type"]], data.get("result"), data.get("partial"), error)
        self._finish(outcome)

    def _keep_void_text(self, data: dict[str, Any]) -> None:
        """Text that was void after a crash stays as the partial message after all, if the task fails in the end."""
        message, partial = data.get("messageId"), data.get("partial")
        if message is not None and partial is not None and all(of != message for _, of, _ in self._texts):
            self._texts.append((0, message, partial))

    def _finish(self, outcome: TaskOutcome) -> None:
        self.status, self._over = outcome.status, True
        self._inputs.clear()
        self._calls.clear()
        self.accepted.set(None)
        self.finished.set(outcome)
        self._signal.set()

    def _fail(self, error: Exception) -> None:
        """There will be no more events."""
        if self._over:
            return
        self._over, self._error = True, error
        if isinstance(error, HubError) and not self.accepted.done():
            self.status = "refused"
        self.accepted.fail(error)
        self.finished.fail(error)
        self._signal.set()

    def _forget(self) -> None:
        """What was applied does not hold any more."""
        self._events.clear()
        self._texts.clear()
        self._inputs.clear()
        self._calls.clear()

    def _replace(self, info: TaskInfo | None, texts: list[tuple[int, str, str]]) -> None:
        """A snapshot takes the place of what was known. None: the snapshot does not know this task."""
        if self._over:
            return
        self._forget()
        if info is None:
            # A submit that was not answered is on its way still.
            if self.accepted.done():
                self._fail(OutcomeUnknown("the log was replaced, and the task is not in it"))
            return
        self.accepted.set(None)
        self.status, self._texts = info["status"], texts
        if self.status in ENDS:
            partial = info.get("partial")
            # The result of an older one stands among the messages only.
            result = info.get("result", texts[-1][2] if texts else None) if self.status == "completed" else None
            self._finish(TaskOutcome(self.status, result, partial and partial["text"], info.get("error")))
        self._signal.set()


class TaskEvents:
    """An iteration over the events of a task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._next = task._seen - len(task._events)

    def __aiter__(self) -> TaskEvents:
        return self

    async def __anext__(self) -> Event:
        task = self._task
        while True:
            kept_from = task._seen - len(task._events)
            if self._next < kept_from:
                if len(task._events) == task._events.maxlen:
                    raise FellBehind(f"{kept_from - self._next} events of {task!r} are gone from memory")
                self._next = kept_from  # A snapshot took their place.
            if self._next < task._seen:
                self._next += 1
                return task._events[self._next - 1 - kept_from]
            if task._error is not None:
                raise task._error
            if task._over:
                raise StopAsyncIteration
            await task._signal.wait()
