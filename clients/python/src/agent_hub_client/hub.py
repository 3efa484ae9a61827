"""The connection to a hub, made again whenever it breaks."""

from __future__ import annotations

import asyncio
import json
import ssl as tls
import uuid
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeVar, cast

from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from ._backoff import Pace, jittered
from ._commands import Command, Outbox, Unanswered
from ._errors import HubClosed, HubError, TokenFailed
from ._position import Position
from ._socket import Credentials, Socket, Target, TokenSource
from ._waiting import Once
from .protocol import (
    AckMessage,
    ClientMessage,
    ErrorMessage,
    Event,
    SessionAttachedMessage,
    WelcomeMessage,
)
from .session import Session

HubState = Literal["connecting", "live", "replaying", "stale", "closed"]
T = TypeVar("T")

# What a hub takes, until its welcome says it.
_MESSAGE_BYTES = 1024 * 1024
# 4000: a bug of this client; 4001: credentials; 4003: not allowed; 4006: no common version.
_FINAL_CODES = frozenset({4000, 4001, 4003, 4006})
# The hub is in trouble or has too much of us: pauses go on growing although it says welcome.
_STRAINED_CODES = frozenset({1011, 4053, 4054})
# A connection that lived this long was a good one, whatever ended it.
_GOOD_SECONDS = 60.0
# How many frames are taken before others may run; a replay would starve them.
_FRAMES_AT_ONCE = 64
# Refused with these, a repeated command is repeated again, when the hub says or after this time.
_NO_ROOM = frozenset({"rate_limited", "overloaded"})
# The answer to a command whose predecessor, which makes what it is about, was refused with these.
_NOT_YET = frozenset({"session_not_found", "task_not_found"})
_TRY_AGAIN_MS = 1000
_CLOSED = "the client was closed"
# Followed or ended by objects of their own.
_NOT_TO_BE_SENT = frozenset({"create_session", "attach_session", "detach_session", "refresh_token", "ping"})


@dataclass(frozen=True, slots=True)
class Lost:
    """Why there is no connection."""

    code: int | None
    """The hub's close code, if it closed."""
    reason: str
    final: bool = False
    """There is no coming back."""
    retry_in: float = 0.0
    """Seconds until the next attempt."""


def connect(
    url: str,
    *,
    token: str | None = None,
    get_token: TokenSource | None = None,
    ticket: TokenSource | None = None,
    cursors: MutableMapping[str, str] | None = None,
    backoff: Callable[[int], float] | None = None,
    connect_timeout: float = 10.0,
    ssl: tls.SSLContext | None = None,
) -> Hub:
    """A hub at `http(s)://host[:port]` (or `ws(s)://…`), to be used as `async with connect(…) as hub`.

    Exactly one of `token`, `get_token` (asked before every connection and when the token expires) and `ticket` (asked before every
    connection); the latter two may be async. `cursors` is any mapping of texts, such as a `shelve`: where each session was left, so
    that `Hub.open` goes on there. `backoff` gives the seconds before attempt 0, 1, 2, ….

    Raises ValueError for a URL that is none. It does not wait for the connection: `hub.state` tells, and commands wait.
    """
    return Hub(
        Target.read(url),
        Credentials.one_of(token, get_token, ticket),
        cursors,
        backoff or jittered(),
        connect_timeout,
        ssl,
    )


class Hub:
    """What `connect` gives. Everything it starts has ended when its `async with` block has."""

    def __init__(
        self,
        target: Target,
        credentials: Credentials,
        cursors: MutableMapping[str, str] | None,
        backoff: Callable[[int], float],
        connect_timeout: float,
        ssl: tls.SSLContext | None,
    ) -> None:
        self.welcome: WelcomeMessage | None = None
        """What the hub said when it last welcomed us."""
        self.lost: Lost | None = None
        """Why there is no connection at present."""
        self._target, self._credentials, self._ssl = target, credentials, ssl
        self._cursors, self._backoff, self._connect_timeout = cursors, backoff, connect_timeout
        self._sessions: dict[str, Session] = {}
        self._unanswered = Unanswered()
        self._socket: Socket | None = None
        self._outbox = Outbox()
        self._held_until = 0.0
        self._had_socket = False
        self._reconnect_after: float | None = None
        self._helpers: set[asyncio.Task[None]] = set()  # of this connection
        self._group: asyncio.TaskGroup | None = None
        self._welcomed = False  # by this connection
        self._leaving: Socket | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closed: HubClosed | None = None
        self._ended: Once[HubClosed] | None = None
        self._told: HubState = "connecting"
        self._change_listeners: list[Callable[[], None]] = []
        self._problem_listeners: list[Callable[[Exception], None]] = []

    async def __aenter__(self) -> Hub:
        if self._runner is not None:
            raise RuntimeError("a hub is entered once; call connect() again")
        self._ended = Once()
        self._runner = asyncio.create_task(self._run(), name="agent-hub client")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            await self.close()
        except Exception as fault:
            if error is None:
                raise
            # What went wrong in the block comes first.
            error.add_note(f"besides, the client failed: {fault!r}")

    async def close(self) -> None:
        """Says goodbye and ends. What waits for an answer or an event gets `HubClosed`."""
        runner = self._runner
        if runner is None:
            return
        runner.cancel()
        try:
            await asyncio.wait([runner])
        except asyncio.CancelledError:
            # No time for a goodbye; but nothing of ours may stay behind.
            if self._leaving is not None:
                self._leaving.transport.abort()
            await asyncio.wait([runner])
            raise
        finally:
            if self._closed is None:  # It was ended before its first step.
                self._end(HubClosed(None, _CLOSED))
        if not runner.cancelled() and (error := runner.exception()) is not None:
            raise error

    @property
    def state(self) -> HubState:
        """`connecting`: no connection yet; `replaying`: what was missed is coming; `live`; `stale`: the connection is lost, and will
        come back; `closed`: for good."""
        if self._closed is not None:
            return "closed"
        if self._socket is None:
            return "stale" if self._had_socket else "connecting"
        return "live" if all(session._caught_up for session in self._sessions.values()) else "replaying"

    @property
    def closed(self) -> HubClosed | None:
        """Why it has ended, if it has."""
        return self._closed

    async def wait_closed(self) -> HubClosed:
        """Waits until it has ended."""
        return await self._running()

    def on_change(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Calls the listener when `state` has changed. Returns what ends that."""
        return _listen(self._change_listeners, listener)

    def on_problem(self, listener: Callable[[Exception], None]) -> Callable[[], None]:
        """Calls the listener with what nobody waits for: errors of the hub that answer no command, a source of tokens that fails."""
        return _listen(self._problem_listeners, listener)

    def create(
        self,
        *,
        agent: str | None = None,
        tools: list[str] | None = None,
        model: str | None = None,
        name: str | None = None,
        tags: list[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """A new session, at once; it is made as soon as there is a connection. Its id is chosen here, so that it is made once."""
        session_id = session_id or str(uuid.uuid4())
        fields: dict[str, Any] = {"agent": agent, "tools": tools, "model": model, "name": name, "tags": tags}
        fields["metadata"] = None if metadata is None else dict(metadata)
        return self._follow(Session(self, session_id, Position(), whole=True), "create_session", fields)

    def open(self, session_id: str, *, after: str | None = None) -> Session:
        """Follows a session that exists: behind the cursor `after`, or the stored one, or from a snapshot; with `after="start"`, all of it.

        A session that is followed already is given as it is; `after` must be left out then.
        """
        if session_id in self._sessions:
            if after is not None:
                raise ValueError(f"session {session_id} is followed already")
            return self._sessions[session_id]
        from_start = after == "start"
        stored = self._cursors.get(session_id) if self._cursors is not None else None
        cursor = None if from_start else after if after is not None else stored
        position = Position() if cursor is None else Position.at(cursor)
        session = Session(self, session_id, position, whole=from_start, from_start=from_start)
        return self._follow(session, "attach_session", {"after": cursor})

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The sessions that are followed."""
        return tuple(self._sessions.values())

    async def send(self, command: ClientMessage) -> AckMessage:
        """Sends any command that has no method of its own and waits for its answer, through as many connections as it takes.

        Choose its `taskId` or `steerId` yourself, so that a repetition is recognised. Raises HubError if it is refused. One that nobody
        waits for any more (cancelled) is not sent again.
        """
        if command["type"] in _NOT_TO_BE_SENT:
            raise ValueError(f"{command['type']} has a method of its own")
        fields = {name: value for name, value in command.items() if name not in ("type", "id")}
        return await self._order(command["type"], fields).answer

    # Commands.

    def _running(self) -> Once[HubClosed]:
        if self._ended is None:
            raise RuntimeError("use it as `async with connect(…) as hub`")
        return self._ended

    def _follow(self, session: Session, kind: str, fields: Mapping[str, Any]) -> Session:
        if session.id in self._sessions:
            raise ValueError(f"session {session.id} is followed already")
        # Taken first: one that is not taken changes nothing.
        command = self._order(kind, {"sessionId": session.id, **fields})
        command.answer.add_done_callback(session._answered)
        self._sessions[session.id] = session
        self._tell()
        return session

    def _store_cursor(self, session_id: str, cursor: str | None) -> None:
        """A mapping that fails is a problem of its own, and not the session's."""
        if self._cursors is None:
            return
        try:
            if cursor is None:
                self._cursors.pop(session_id, None)
            else:
                self._cursors[session_id] = cursor
        except Exception as error:
            self._problem(error)

    def _forget(self, session: Session) -> None:
        if self._sessions.get(session.id) is session:
            del self._sessions[session.id]

    def _order(self, kind: str, fields: Mapping[str, Any]) -> Command:
        """Takes a command. Cancelling its answer means that nobody waits; then it is not sent again."""
        self._running()
        if self._closed is not None:
            raise self._closed
        limit = self.welcome["limits"]["messageBytes"] if self.welcome else _MESSAGE_BYTES
        command = self._unanswered.add(kind, fields, limit)
        self._push(command)
        return command

    def _attach(self, session: Session) -> None:
        """Attaches on the client's own account."""
        if self._socket is None or self._sessions.get(session.id) is not session:
            return
        self._push(self._unanswered.add_own("attach_session", {"sessionId": session.id, "after": session.cursor}))

    def _push(self, command: Command) -> None:
        # Without a connection it waits in _unanswered.
        if self._socket is not None:
            self._outbox.push(command)

    # The life of connections.

    async def _run(self) -> None:
        attempt = 0
        reason = HubClosed(None, _CLOSED)
        loop = asyncio.get_running_loop()
        try:
            while True:
                began, self._welcomed = loop.time(), False
                lost = await self._one_connection()
                if lost.final:
                    reason = HubClosed(lost.code, lost.reason)
                    break
                strained = lost.code in _STRAINED_CODES and loop.time() - began < _GOOD_SECONDS
                if self._welcomed and not strained:
                    attempt = 0
                delay = lost.retry_in if lost.retry_in > 0 else self._backoff(attempt)
                attempt += 1
                self.lost = Lost(lost.code, lost.reason, retry_in=delay)
                self._tell()
                await asyncio.sleep(delay)
        except Exception as error:
            reason = HubClosed(None, f"a fault of the client: {error!r}")
            reason.__cause__ = error
            raise
        finally:
            self._end(reason)

    async def _one_connection(self) -> Lost:
        """From the first packet to the last."""
        socket: Socket | None = None
        self._reconnect_after = None
        try:
            async with asyncio.timeout(self._connect_timeout):
                socket = await self._target.open(self._credentials, self._ssl)
                welcome = await _welcome(socket)
            await self._serve(socket, welcome)
            raise AssertionError("a connection ends with an exception")
        except ConnectionClosed as error:
            self._had_socket = True
            return self._closed_by(error)
        except TimeoutError:
            return Lost(None, "there was no welcome in time")
        except InvalidStatus as error:
            # A hub says with close codes that there is no coming back. This may be a proxy, or a network that wants a login first.
            after = error.response.headers.get("Retry-After", "")
            pause = float(after) if after.isdecimal() and after.isascii() else 0.0
            return Lost(None, f"the hub answered with status {error.response.status_code}", retry_in=pause)
        except (OSError, WebSocketException, EOFError) as error:
            return Lost(None, f"the hub cannot be reached: {error}")
        except TokenFailed as error:
            self._problem(error)
            return Lost(None, str(error))
        finally:
            self._disconnected()
            if socket is not None:
                self._leaving = socket
                try:
                    await socket.close()
                finally:
                    socket.transport.abort()
                    self._leaving = None

    def _closed_by(self, error: ConnectionClosed) -> Lost:
        if error.rcvd is None:
            return Lost(None, "the connection broke", retry_in=self._reconnect_after or 0.0)
        code = None if error.rcvd.code == 1005 else int(error.rcvd.code)  # 1005: without a code
        reason = error.rcvd.reason or "the hub closed the connection"
        if code == 1009:
            # Sending it again would end the next connection too.
            self._unanswered.drop_the_largest()
        return Lost(code, reason, code in _FINAL_CODES, self._reconnect_after or 0.0)

    async def _serve(self, socket: Socket, welcome: WelcomeMessage) -> None:
        """Speaks over one connection until it ends, with ConnectionClosed."""
        self.welcome, self._welcomed = welcome, True
        self._socket, self._had_socket, self.lost = socket, True, None
        self._outbox.clear()
        closed: ConnectionClosed | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._resume()
            self._help(self._write(socket))
            self._help(self._watch(socket, welcome))
            self._tell()
            try:
                await self._read(socket)
            except ConnectionClosed as error:
                closed = error
            finally:
                self._group = None
                for helper in self._helpers:
                    helper.cancel()
        if closed is not None:
            raise closed

    def _help(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs beside the reader, at most as long as its connection."""
        if self._group is None:
            work.close()
            return
        helper = self._group.create_task(work)
        self._helpers.add(helper)
        helper.add_done_callback(self._helpers.discard)

    async def _read(self, socket: Socket) -> None:
        while True:
            for _ in range(_FRAMES_AT_ONCE):
                frame = await socket.recv()
                if isinstance(frame, str):
                    self._receive(frame)
            await asyncio.sleep(0)

    async def _write(self, socket: Socket) -> None:
        """Hands over what waits, as fast as the hub takes it."""
        loop = asyncio.get_running_loop()
        pace = Pace(loop.time())
        self._held_until = 0.0
        try:
            while True:
                now = loop.time()
                if (command := self._outbox.first()) is None:
                    await self._outbox.changed()
                elif (wait := self._held_until - now) > 0 or (wait := pace.take(now)) > 0:
                    await asyncio.sleep(wait)
                else:
                    await socket.send(self._outbox.take(command))
        except ConnectionClosed:
            return  # The reader says so.

    async def _watch(self, socket: Socket, welcome: WelcomeMessage) -> None:
        """Gives up a hub of which nothing is heard for two of its heartbeats; asks after one."""
        loop = asyncio.get_running_loop()
        half = max(welcome["heartbeatMs"], 50) / 1000
        while True:
            while (rest := socket.heard + half - loop.time()) > 0:
                await asyncio.sleep(rest)
            heard, until = socket.heard, loop.time() + half
            # A hub that reads nothing does not keep us from leaving it.
            with suppress(TimeoutError, ConnectionClosed):
                async with asyncio.timeout_at(until):
                    await socket.send('{"type":"ping"}')
            await asyncio.sleep(until - loop.time())
            if socket.heard == heard:
                socket.transport.abort()
                return

    def _resume(self) -> None:
        """On a new connection: the sessions behind their cursors, then what was not answered, in its order."""
        again = self._unanswered.again()
        attached_by_them = {command.session for command in again if command.attaches}
        for session in tuple(self._sessions.values()):
            session._on_connection()
            if session.id not in attached_by_them:
                self._attach(session)
        for command in again:
            session_of_it = self._sessions.get(command.session or "")
            if session_of_it is not None and session_of_it.cursor is not None:
                command.attach_after(session_of_it.cursor)
            self._push(command)

    def _disconnected(self) -> None:
        self._socket = None
        self._outbox.clear()
        for session in self._sessions.values():
            session._on_connection()

    def _end(self, reason: HubClosed) -> None:
        self._disconnected()
        self._closed = reason
        self._unanswered.end(reason)
        for session in tuple(self._sessions.values()):
            session._fail(reason)
        self._running().set(reason)
        self._tell()

    # What the hub says.

    def _receive(self, frame: str) -> None:
        try:
            message = json.loads(frame)
            kind = message["type"]
            if handler := _HANDLERS.get(kind):
                handler(self, message)
                self._tell()
            elif type(message.get("seq")) is int and "at" in message:
                session = self._sessions.get(message.get("sessionId"))
                # Events of a session that was detached may still be on their way.
                if session is not None:
                    was_caught_up = session._caught_up
                    session._on_event(cast(Event, message))
                    if session._caught_up != was_caught_up:
                        self._tell()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._problem(ValueError(f"the hub sent a message that cannot be read: {error!r}"))

    def _on_ack(self, message: AckMessage) -> None:
        self._unanswered.answer(message["id"], message)

    def _on_error(self, message: ErrorMessage) -> None:
        error = HubError(message)
        command = self._unanswered.get(message.get("id"))
        # It took too much of us, not this command; a first one is its sender's to repeat.
        no_room = error.code in _NO_ROOM and (command is None or command.sends > 1 or (command.own and not command.attaches))
        if no_room:
            pause = _TRY_AGAIN_MS if error.retry_after_ms is None else error.retry_after_ms
            self._held_until = max(self._held_until, asyncio.get_running_loop().time() + pause / 1000)
        later = no_room or (command is not None and error.code in _NOT_YET and self._outbox.is_behind(command))
        if later and command is not None and not command.answer.cancelled():
            self._outbox.put_back(command)
            return
        self._unanswered.answer(message.get("id"), error)
        session = None if command is None else self._sessions.get(command.session or "")
        if command is None:
            self._problem(error)
        elif command.own:
            if command.attaches and session is not None:
                session._attach_refused(error)
            else:
                self._problem(error)

    def _on_session_attached(self, message: SessionAttachedMessage) -> None:
        session = self._sessions.get(message["sessionId"])
        if session is not None:
            session._on_attached(message)

    def _on_caught_up(self, message: Mapping[str, Any]) -> None:
        session = self._sessions.get(message["sessionId"])
        if session is not None:
            session._on_caught_up()

    def _on_auth_expiring(self, _: Mapping[str, Any]) -> None:
        # A ticket is no token: the connection is closed with 4050 and made again with a new one.
        if not self._credentials.is_ticket:
            self._help(self._refresh())

    async def _refresh(self) -> None:
        try:
            token = await self._credentials.get()
        except TokenFailed as error:
            self._problem(error)
            return
        self._push(self._unanswered.add_own("refresh_token", {"token": token}))

    def _on_going_away(self, message: Mapping[str, Any]) -> None:
        self._reconnect_after = max(float(message["reconnectAfterMs"]), 1.0) / 1000

    # Listeners.

    def _problem(self, error: Exception) -> None:
        for listener in tuple(self._problem_listeners):
            self._call(listener, error)

    def _tell(self) -> None:
        state = self.state
        if state != self._told:
            self._told = state
            for listener in tuple(self._change_listeners):
                self._call(listener)
        for session in tuple(self._sessions.values()):
            session._tell()

    def _call(self, listener: Callable[..., None], *arguments: object) -> None:
        """A listener that fails does not stop the client."""
        try:
            listener(*arguments)
        except Exception as error:
            context = {"message": "a listener of agent_hub_client failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)


_HANDLERS: dict[str, Callable[[Hub, Any], None]] = {
    "welcome": lambda hub, message: None,
    "ack": Hub._on_ack,
    "error": Hub._on_error,
    "pong": lambda hub, message: None,
    "session_attached": Hub._on_session_attached,
    "caught_up": Hub._on_caught_up,
    "auth_expiring": Hub._on_auth_expiring,
    "going_away": Hub._on_going_away,
}


def _listen(listeners: list[T], listener: T) -> Callable[[], None]:
    listeners.append(listener)
    return lambda: listeners.remove(listener) if listener in listeners else None


async def _welcome(socket: Socket) -> WelcomeMessage:
    """Waits for the welcome; passes over what may come before it."""
    while True:
        frame = await socket.recv()
        try:
            message = json.loads(frame)
            readable = type(message["heartbeatMs"]) is type(message["limits"]["messageBytes"]) is int
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if message.get("type") == "welcome" and readable:
            return cast(WelcomeMessage, message)
