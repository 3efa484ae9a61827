"""A hub that says what the test has it say: one connection after another, frame by frame."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, TypeVar

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from agent_hub_client import Hub, Session

T = TypeVar("T")
Message = dict[str, Any]

# Generous: nothing here is a measurement.
PATIENCE = 20.0


async def soon(what: Awaitable[T]) -> T:
    """What has to happen, with an end to the waiting."""
    async with asyncio.timeout(PATIENCE):
        return await what


def state_of(what: Hub | Session) -> str:
    """Its state now. (Compared directly, the type checker would take it to stay like that.)"""
    return what.state


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


class Peer:
    """One connection, seen from the hub."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.done = asyncio.Event()
        self.pings = 0

    @property
    def path(self) -> str:
        assert self.connection.request is not None
        return self.connection.request.path

    @property
    def authorization(self) -> str | None:
        assert self.connection.request is not None
        return self.connection.request.headers.get("Authorization")

    async def send(self, *messages: Message | str) -> None:
        for message in messages:
            await self.connection.send(message if isinstance(message, str) else json.dumps(message))

    async def welcome(self, *, heartbeat_ms: int = 20_000, message_bytes: int = 1_048_576) -> Peer:
        limits = {"messageBytes": message_bytes, "promptChars": 10_000, "attachedSessions": 64}
        about = {"connectionId": "c1", "protocol": "agent-hub.v1", "user": "ada"}
        await self.send({"type": "welcome", **about, "heartbeatMs": heartbeat_ms, "limits": limits})
        return self

    async def expect(self, kind: str, **fields: Any) -> Message:
        """The next command, which has to be this one. Pings in between are counted."""
        while True:
            message: Message = json.loads(await soon(self.connection.recv()))
            if message["type"] == "ping" and kind != "ping":
                self.pings += 1
                continue
            assert message["type"] == kind, message
            assert {name: message.get(name) for name in fields} == fields, message
            return message

    async def ack(self, command: Message, **more: Any) -> None:
        await self.send({"type": "ack", "id": command["id"], "received": command["type"], **more})

    async def refuse(self, command: Message, code: str, *, retryable: bool = False, **more: Any) -> None:
        await self.send({"type": "error", "id": command["id"], "code": code, "message": code, "retryable": retryable, **more})

    async def close(self, code: int, reason: str = "") -> None:
        await self.connection.close(code, reason)
        self.done.set()

    def reset(self) -> None:
        self.connection.transport.abort()
        self.done.set()

    async def gone(self) -> None:
        """Waits for the client to leave."""
        with_patience = soon(self.connection.wait_closed())
        await with_patience
        self.done.set()


class FakeHub:
    """Hands its connections to the test in the order they come."""

    def __init__(self) -> None:
        self.peers: asyncio.Queue[Peer] = asyncio.Queue()
        self.accepted: list[Peer] = []
        self.refusals: list[tuple[HTTPStatus, dict[str, str]]] = []
        self.url = ""

    async def accept(self) -> Peer:
        peer = await soon(self.peers.get())
        self.accepted.append(peer)
        return peer

    async def welcome(self, **limits: int) -> Peer:
        return await (await self.accept()).welcome(**limits)

    async def serve(self, connection: ServerConnection) -> None:
        peer = Peer(connection)
        self.peers.put_nowait(peer)
        closed = asyncio.create_task(connection.wait_closed())
        done = asyncio.create_task(peer.done.wait())
        try:
            await asyncio.wait([closed, done], return_when=asyncio.FIRST_COMPLETED)
        except ConnectionClosed:
            pass
        finally:
            closed.cancel()
            done.cancel()
            await asyncio.wait([closed, done])

    def refuse(self, connection: ServerConnection, _: Request) -> Response | None:
        if not self.refusals:
            return None
        status, headers = self.refusals.pop(0)
        response = connection.respond(status, "no\n")
        response.headers.update(headers)
        return response


@asynccontextmanager
async def fake_hub() -> AsyncIterator[FakeHub]:
    hub = FakeHub()
    server: Server = await serve(
        hub.serve, "127.0.0.1", 0, process_request=hub.refuse, ping_interval=None, close_timeout=0.2, compression=None
    )
    port = next(iter(server.sockets)).getsockname()[1]
    hub.url = f"ws://127.0.0.1:{port}"
    try:
        yield hub
    finally:
        server.close()
        for peer in hub.accepted:
            peer.reset()
        await server.wait_closed()


SESSION = "7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10"
TASK = "c1d2e3f4-0a1b-4c2d-8e3f-405162738495"
OTHER = "0198f3a2-6b1c-7d4e-8f90-a1b2c3d4e5f6"


def attached(first: int, head: int, *, session: str = SESSION, epoch: str = "e1", snapshot: Message | None = None) -> Message:
    message = {"type": "session_attached", "sessionId": session, "epoch": epoch, "recovered": snapshot is None, "from": first, "head": head}
    return message if snapshot is None else message | {"snapshot": snapshot}


def caught_up(seq: int, *, session: str = SESSION) -> Message:
    return {"type": "caught_up", "sessionId": session, "seq": seq}


def event(kind: str, seq: int, /, *, session: str = SESSION, task: str | None = TASK, **data: Any) -> Message:
    message: Message = {"type": kind, "sessionId": session, "seq": seq, "at": "2026-11-20T14:02:01.037Z", "data": data}
    return message if task is None else message | {"taskId": task}


def created(*, session: str = SESSION) -> Message:
    about = {"epoch": "e1", "agent": "assistant", "tools": [], "createdAt": "2026-11-20T14:02:01.037Z"}
    return event("session_created", 1, session=session, task=None, **about)


def token(seq: int, text: str, *, message: str = "m2", task: str = TASK, session: str = SESSION) -> Message:
    return event("token", seq, task=task, session=session, token=text, messageId=message)


def snapshot(*tasks: Message, messages: tuple[Message, ...] = (), pending: tuple[Message, ...] = ()) -> Message:
    at = "2026-11-20T14:02:01.037Z"
    about = {"id": SESSION, "status": "active", "agent": "assistant", "tools": [], "tags": [], "taskCount": len(tasks)}
    about |= {"createdAt": at, "updatedAt": at}
    more = {"earlierMessages": 0, "queue": [], "pendingInputs": list(pending)}
    return {"session": about, "messages": list(messages), "tasks": list(tasks), **more}


def task_info(status: str, *, task: str = TASK, **more: Any) -> Message:
    info = {"taskId": task, "status": status, "prompt": "?", "attempt": 1, "stepsCompleted": 0, "firstSeq": 2}
    return info | {"createdAt": "2026-11-20T14:02:01.037Z"} | more


def numbers() -> Callable[[], int]:
    """1, 2, 3, …"""
    counter = itertools.count(1)
    return lambda: next(counter)
