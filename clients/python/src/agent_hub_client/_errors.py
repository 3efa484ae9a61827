"""What can go wrong."""

from __future__ import annotations

from typing import Any

from .protocol import ErrorMessage


class AgentHubError(Exception):
    """Everything this client raises on purpose."""


class HubError(AgentHubError):
    """The hub refused a command; nothing was changed."""

    def __init__(self, answer: ErrorMessage) -> None:
        self.code: str = answer["code"]
        """What to decide by. A code that is not known here is to be treated by `retryable`."""
        self.message: str = answer["message"]
        """For people."""
        self.retryable: bool = answer["retryable"]
        """Whether the same command may succeed later."""
        self.retry_after_ms: int | None = answer.get("retryAfterMs")
        """How long to wait first."""
        self.details: Any = answer.get("details")
        self.session_id: str | None = answer.get("sessionId")
        self.task_id: str | None = answer.get("taskId")
        super().__init__(f"{self.code}: {self.message}")


class HubClosed(AgentHubError):
    """There will be no answer and no further event: the client was closed, or the hub said that there is no coming back."""

    def __init__(self, code: int | None, reason: str) -> None:
        self.code = code
        """The close code of the hub, if it was the hub."""
        self.reason = reason
        super().__init__(reason if code is None else f"{reason} ({code})")


class Detached(AgentHubError):
    """The session is not followed any more."""


class QueueFull(AgentHubError):
    """Too many commands wait for an answer of the hub. This one was not taken; await some answers first."""


class FellBehind(AgentHubError):
    """Events came faster than they were taken from an iterator, and those it had not given yet are gone from memory.

    Nothing is lost in the session's state (`task.text()`, `task.status`); to see every event again, open the session from its start.
    """


class MessageTooBig(AgentHubError):
    """The command is larger than the hub takes; it was not sent."""


class OutcomeUnknown(AgentHubError):
    """What became of it is not told here: in a log that was replaced by a snapshot, or before the cursor the session was opened behind."""


class TokenFailed(AgentHubError):
    """The source of tokens raised, or gave something that is no token."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"the source of tokens failed: {cause!r}")
        self.__cause__ = cause
