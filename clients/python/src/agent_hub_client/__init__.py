"""asyncio client of agent-hub: sessions with AI agents that survive a dropped connection.

    async with connect("http://127.0.0.1:3000", token=token) as hub:
        task = hub.create().submit("Name three sea birds.")
        async for event in task:
            if event["type"] == "token":
                print(event["data"]["token"], end="", flush=True)
        print(await task.finished)

Every event of a session is applied exactly once and in order, however often the connection breaks in between. A command is sent again
until it is answered; the ids chosen here let the hub recognise the repetition.
"""

from ._backoff import jittered
from ._errors import (
    AgentHubError,
    Detached,
    FellBehind,
    HubClosed,
    HubError,
    MessageTooBig,
    OutcomeUnknown,
    QueueFull,
    TokenFailed,
)
from .hub import Hub, HubState, Lost, connect
from .protocol import Event
from .session import Attached, Session, SessionState
from .task import PendingInput, SteerReceipt, Task, TaskOutcome, TaskState

__all__ = [
    "AgentHubError",
    "Attached",
    "Detached",
    "Event",
    "FellBehind",
    "Hub",
    "HubClosed",
    "HubError",
    "HubState",
    "Lost",
    "MessageTooBig",
    "OutcomeUnknown",
    "PendingInput",
    "QueueFull",
    "Session",
    "SessionState",
    "SteerReceipt",
    "Task",
    "TaskOutcome",
    "TaskState",
    "TokenFailed",
    "connect",
    "jittered",
]
