"""Connections that end, and what the client makes of it, against a hub that follows a script."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from http import HTTPStatus

import pytest
from fake_hub import OTHER, SESSION, TASK, FakeHub, Message, attached, caught_up, created, event, fake_hub, soon, state_of, token, until
from websockets.exceptions import ConnectionClosed

from agent_hub_client import Hub, HubClosed, HubError, HubState, MessageTooBig, QueueFull, TokenFailed, connect


def quick(attempt: int) -> float:
    return 0.002


def client(server: FakeHub, **options: object) -> Hub:
    given: dict[str, object] = {"backoff": quick, "connect_timeout": 10.0, **options}
    if not {"token", "get_token", "ticket"} & given.keys():
        given["token"] = "t0"
    return connect(server.url, **given)  # type: ignore[arg-type]


def states(hub: Hub) -> list[tuple[HubState, int | None]]:
    seen: list[tuple[HubState, int | None]] = []
    hub.on_change(lambda: seen.append((hub.state, hub.lost.code if hub.lost else None)))
    return seen


async def test_how_it_connects(server: FakeHub) -> None:
    async with client(server) as hub:
        assert state_of(hub) == "connecting"
        peer = await server.accept()
        assert peer.path == "/ws/agents"
        assert peer.authorization == "Bearer t0"
        assert peer.connection.subprotocol is None
        assert peer.connection.request is not None
        assert peer.connection.request.headers["Sec-WebSocket-Protocol"] == "agent-hub.v1"
        await peer.welcome()
        await until(lambda: hub.state == "live")
        assert hub.welcome is not None
        assert hub.welcome["user"] == "ada"
    assert state_of(hub) == "closed"
    assert peer.connection.close_code == 1000


async def test_a_ticket_is_asked_for_before_every_connection(server: FakeHub) -> None:
    tickets = iter(["a b", "c"])
    async with client(server, ticket=lambda: next(tickets)):
        peer = await server.welcome()
        assert peer.path == "/ws/agents?ticket=a%20b"
        assert peer.authorization is None
        await peer.close(4050)
        assert (await server.welcome()).path == "/ws/agents?ticket=c"


@pytest.mark.parametrize("code", [4000, 4001, 4003, 4006])
@pytest.mark.parametrize("when", ["before the welcome", "after it"])
async def test_final_codes_end_everything(server: FakeHub, code: int, when: str) -> None:
    async with client(server) as hub:
        seen = states(hub)
        session = hub.create(session_id=SESSION)
        task = session.submit("hello", task_id=TASK)
        peer = await server.accept()
        if when == "after it":
            await peer.welcome()
            await peer.expect("create_session")
        await peer.close(code, "no")
        for waiting in (session.ready, task.accepted, task.finished, anext(aiter(task)), hub.send({"type": "cancel_task", "taskId": TASK})):
            with pytest.raises(HubClosed) as raised:
                await soon(waiting)
            assert raised.value.code == code
        assert (await soon(hub.wait_closed())).code == code
        with pytest.raises(HubClosed):
            hub.create()
        assert seen[-1][0] == "closed"
        assert state_of(session) == "closed"
    assert server.peers.empty(), "it did not come back"


@pytest.mark.parametrize("code", [1000, 1001, 1009, 1011, 1012, 4050, 4051, 4052, 4053, 4054, 4999, None])
async def test_other_ends_are_resumed_behind_the_cursor(server: FakeHub, code: int | None) -> None:
    async with client(server) as hub:
        seen = states(hub)
        session = hub.create(session_id=SESSION)
        peer = await server.welcome()
        command = await peer.expect("create_session", sessionId=SESSION)
        await peer.ack(command)
        await peer.send(attached(1, 2), created(), token(2, "a"), caught_up(2))
        await until(lambda: session.state == "live")
        if code is None:
            peer.reset()
        else:
            await peer.close(code)
        peer = await server.welcome()
        assert ("stale", code) in seen
        assert state_of(session) == "stale"
        command = await peer.expect("attach_session", sessionId=SESSION, after="e1.2")
        await peer.send(attached(3, 3), token(3, "b"))
        await until(lambda: session.cursor == "e1.3")
        assert state_of(hub) == state_of(session) == "replaying"
        await peer.send(caught_up(3))
        await until(lambda: hub.state == session.state == "live")
        assert session.task(TASK).text() == "ab"


async def test_going_away_says_when_to_come_back(server: FakeHub) -> None:
    # With the backoff it would come back tomorrow.
    async with client(server, backoff=lambda attempt: 86_400.0) as hub:
        peer = await server.welcome()
        await peer.send({"type": "going_away", "reconnectAfterMs": 7})
        await peer.close(1012)
        peer = await server.welcome()
        await until(lambda: hub.state == "live")
        await peer.close(1012)
        await until(lambda: hub.state == "stale")
        assert hub.lost is not None
        assert (hub.lost.code, hub.lost.retry_in) == (1012, 86_400.0)


async def test_pauses_grow_until_a_welcome(server: FakeHub) -> None:
    attempts: list[int] = []

    def backoff(attempt: int) -> float:
        attempts.append(attempt)
        return 0.001

    async with client(server, backoff=backoff):
        for _ in range(3):
            (await server.accept()).reset()
        for _ in range(2):
            await (await server.welcome()).close(1012)
        # In these the hub says that it has too much of us, so a welcome is no all-clear.
        for code in (4053, 1011, 4054):
            await (await server.welcome()).close(code)
        await server.accept()
    assert attempts == [0, 1, 2, 0, 0, 1, 2, 3]


async def test_an_attempt_without_welcome_is_given_up(server: FakeHub) -> None:
    async with client(server, connect_timeout=0.05) as hub:
        silent = await server.accept()
        await silent.gone()
        talking = await server.accept()
        await talking.send({"type": "welcome"}, "[", {"type": "hello"}, {"type": "pong"})
        await talking.gone()
        assert hub.welcome is None

        async def welcome_whoever_comes() -> None:
            while True:
                peer = await server.accept()
                # A slow machine may be too late for this one.
                with suppress(ConnectionClosed):
                    # Other frames before the welcome are passed over.
                    await peer.send({"type": "hello"})
                    await peer.welcome()

        welcoming = asyncio.create_task(welcome_whoever_comes())
        await until(lambda: hub.state == "live")
        welcoming.cancel()
        await asyncio.wait([welcoming])


async def test_a_silent_hub_is_left(server: FakeHub) -> None:
    async with client(server) as hub:
        peer = await server.welcome(heartbeat_ms=50)
        await peer.expect("ping")
        await peer.gone()
        await server.welcome()
        await until(lambda: hub.state == "live")


async def test_a_hub_that_answers_pings_is_kept(server: FakeHub) -> None:
    async with client(server) as hub:
        peer = await server.welcome(heartbeat_ms=400)
        for _ in range(3):
            await peer.expect("ping")
            await peer.send({"type": "pong"})
        assert state_of(hub) == "live"
    assert server.peers.empty()


async def test_http_answers(server: FakeHub) -> None:
    server.refusals += [(HTTPStatus.SERVICE_UNAVAILABLE, {}), (HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "0"})]
    async with client(server) as hub:
        await server.welcome()
        await until(lambda: hub.state == "live")
        # None of these is the hub's last word.
        for status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.MULTIPLE_CHOICES):
            server.refusals.append((status, {}))
            server.accepted[-1].reset()
            await server.welcome()
            await until(lambda: hub.state == "live")
            assert server.refusals == []


@pytest.mark.parametrize("location", ["http://portal.example/login", "/elsewhere", "ws://[", "{other}"])
async def test_redirects_are_not_followed(server: FakeHub, location: str) -> None:
    async with fake_hub() as other:
        location = location.format(other=other.url)
        server.refusals += [(HTTPStatus.FOUND, {"Location": location}), (HTTPStatus.PERMANENT_REDIRECT, {"Location": location})]
        async with client(server) as hub:
            peer = await server.welcome()
            assert peer.path == "/ws/agents"
            await until(lambda: hub.state == "live")
        assert other.peers.empty(), "it has not seen the token"


async def test_no_answer_of_the_other_side_is_a_fault_of_the_client(server: FakeHub) -> None:
    answers = [
        b"",
        b"220 mail.example ESMTP\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ?\r\n\r\n",
    ]
    left = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(left.pop(0) if left else b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as stranger:
        port = stranger.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", token="t", backoff=quick) as hub:
            await until(lambda: not left)
            assert state_of(hub) == "connecting"


async def test_retry_after_is_honoured(server: FakeHub) -> None:
    server.refusals.append((HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "3600"}))
    async with client(server) as hub:
        await until(lambda: hub.lost)
        assert hub.lost is not None
        assert (hub.lost.retry_in, hub.lost.reason) == (3600, "the hub answered with status 503")


async def test_tokens_are_renewed_in_band_and_for_connections(server: FakeHub) -> None:
    tokens = iter(["t1", "t2", "t3"])

    async def get_token() -> str:
        await asyncio.sleep(0)
        return next(tokens)

    async with client(server, get_token=get_token) as hub:
        problems: list[Exception] = []
        hub.on_problem(problems.append)
        peer = await server.welcome()
        assert peer.authorization == "Bearer t1"
        await peer.send({"type": "auth_expiring", "inMs": 30_000})
        command = await peer.expect("refresh_token", token="t2")
        await peer.refuse(command, "unauthorized")
        await until(lambda: problems)
        assert isinstance(problems[0], HubError)
        assert problems[0].code == "unauthorized"
        await peer.close(4050)
        assert (await server.welcome()).authorization == "Bearer t3"


async def test_a_source_of_tokens_that_fails_is_asked_again(server: FakeHub) -> None:
    answers: list[object] = [RuntimeError("down"), 7, "ünicode", "line\nbreak", "good"]

    def get_token() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    hub = client(server, get_token=get_token)
    problems: list[Exception] = []
    hub.on_problem(problems.append)
    async with hub:
        peer = await server.welcome()
        assert peer.authorization == "Bearer good"
        assert [type(problem) for problem in problems] == [TokenFailed] * 4
        # While the connection is good, it is a problem and no more.
        answers.append(RuntimeError("down again"))
        await peer.send({"type": "auth_expiring", "inMs": 1})
        await until(lambda: len(problems) == 5)
        assert state_of(hub) == "live"


async def test_a_slow_source_of_tokens_does_not_outlive_its_connection(server: FakeHub) -> None:
    asked = asyncio.Event()

    async def get_token() -> str:
        if asked.is_set():
            return "t2"
        if server.accepted:
            asked.set()
            await asyncio.Event().wait()
        return "t1"

    async with client(server, get_token=get_token):
        peer = await server.welcome()
        await peer.send({"type": "auth_expiring", "inMs": 1})
        await soon(asked.wait())
        peer.reset()
        assert (await server.welcome()).authorization == "Bearer t2"


async def test_frames_that_make_no_sense_change_nothing(server: FakeHub) -> None:
    async with client(server) as hub:
        problems: list[Exception] = []
        hub.on_problem(problems.append)
        session = hub.create(session_id=SESSION)
        peer = await server.welcome()
        await peer.ack(await peer.expect("create_session"))
        await peer.send(attached(1, 1), created(), caught_up(1))
        bad = [
            "",
            "{",
            "[]",
            "7",
            '{"type":7}',
            "{}",
            "[" * 100_000,
            '{"type":"ack"}',
            '{"type":"session_attached","sessionId":"' + SESSION + '"}',
        ]
        await peer.send(*bad)
        await peer.connection.send(b"\x00\x01")
        unknown: list[Message] = [{"type": "news", "sessionId": SESSION}, {"type": "pong", "id": "x"}]
        not_ours: list[Message] = [token(2, "x", session=TASK), {"type": "session_attached", "sessionId": TASK}]
        not_ours += [{"type": "caught_up", "sessionId": TASK}, {"type": "ack", "id": 77, "received": "x"}]
        no_answer: Message = {"type": "error", "code": "internal", "message": "m", "retryable": True, "id": "c1"}
        await peer.send(*unknown, *not_ours, no_answer)
        await peer.send(token(2, "a"))
        await until(lambda: session.cursor == "e1.2")
        assert session.task(TASK).text() == "a"
        assert sum(isinstance(problem, HubError) for problem in problems) == 1
        assert len(problems) == 9
        assert state_of(hub) == "live"


async def test_a_listener_that_fails_is_reported_and_stops_nobody(server: FakeHub) -> None:
    complaints: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        session.on_event(lambda what: 1 / 0)  # type: ignore[arg-type]
        seen: list[object] = []
        forget = session.on_event(seen.append)
        peer = await server.welcome()
        await peer.ack(await peer.expect("create_session"))
        await peer.send(attached(1, 1), created())
        await until(lambda: len(seen) == 2)
        forget()
        forget()
        await peer.send(token(2, "a"))
        await until(lambda: session.cursor == "e1.2")
        assert len(seen) == 2
    assert len(complaints) == 3


async def test_more_commands_than_may_wait_are_refused_at_once(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        tasks = [session.submit(str(number)) for number in range(255)]
        with pytest.raises(QueueFull):
            session.submit("one too many")
        assert len(session.tasks) == 255
        with pytest.raises(QueueFull):
            hub.create(session_id=TASK)
        assert [followed.id for followed in hub.sessions] == [SESSION]
        peer = await server.welcome()
        await peer.ack(await peer.expect("create_session"))
        await peer.send(attached(1, 0))
        await soon(session.ready)
        session.submit("there is room again")
        with pytest.raises(QueueFull):
            session.submit("one too many")
        for task in tasks[:20]:
            await peer.ack(await peer.expect("submit_task", taskId=task.id))
        await soon(tasks[19].accepted)


async def test_commands_nobody_waits_for_take_no_room_and_are_not_sent(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        for _ in range(300):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await session.end()
        task = session.submit("x")
        await asyncio.sleep(0)
        assert len(hub._unanswered._commands) == 2
        peer = await server.welcome()
        await peer.expect("create_session")
        await peer.expect("submit_task", taskId=task.id)


async def test_repeated_commands_wait_when_the_hub_has_too_much_of_us(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        task = session.submit("x")
        peer = await server.welcome()
        await peer.expect("create_session")
        await peer.expect("submit_task")
        peer.reset()
        peer = await server.welcome()
        create, submit = await peer.expect("create_session"), await peer.expect("submit_task")
        await peer.refuse(create, "rate_limited", retryable=True, retryAfterMs=20)
        await peer.refuse(submit, "overloaded", retryable=True, retryAfterMs=20)
        for command in (create, submit):
            assert await peer.expect(command["type"]) == command
            await peer.ack(command)
        await soon(task.accepted)
        # The same for a token; and what is told to nobody in particular holds everything back for a while.
        await peer.send({"type": "auth_expiring", "inMs": 1})
        await peer.refuse(await peer.expect("refresh_token"), "rate_limited", retryable=True, retryAfterMs=20)
        await peer.ack(await peer.expect("refresh_token"))
        problems: list[Exception] = []
        hub.on_problem(problems.append)
        await peer.send({"type": "error", "code": "rate_limited", "message": "m", "retryable": True, "retryAfterMs": 86_400_000})
        await until(lambda: problems)
        late = session.submit("late")
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session")
        await peer.expect("submit_task", taskId=late.id)


async def test_repeated_commands_that_were_put_back_keep_their_order(server: FakeHub) -> None:
    async with client(server) as hub:
        session, other = hub.create(session_id=SESSION), hub.create(session_id=OTHER)
        tasks = [session.submit(prompt) for prompt in "ABC"]
        cancelling = asyncio.create_task(tasks[0].cancel())
        dropped = asyncio.create_task(session.end())
        elsewhere = other.submit("elsewhere")
        kinds = ["create_session"] * 2 + ["submit_task"] * 4 + ["cancel_task", "end_session"]
        peer = await server.welcome()
        said = [await peer.expect(kind) for kind in kinds]
        peer.reset()
        peer = await server.welcome()
        assert [await peer.expect(kind) for kind in kinds] == said
        create, create_other, *submits, far, cancel, end = said
        too_much: Message = {"retryable": True, "retryAfterMs": 20}
        # The hub has no room for the first ones; then there is no session and no task for what follows.
        await peer.refuse(create, "overloaded", **too_much)
        await peer.ack(create_other)
        await peer.refuse(submits[0], "session_not_found")
        await peer.refuse(submits[1], "overloaded", **too_much)
        await peer.refuse(submits[2], "session_not_found")
        await peer.refuse(far, "overloaded", **too_much)
        await peer.refuse(cancel, "task_not_found")
        dropped.cancel()
        await asyncio.wait([dropped])
        await peer.refuse(end, "overloaded", **too_much)
        # Each waits for the one before it in its session, which is refused once more here, and for no other session.
        assert [await peer.expect("create_session"), await peer.expect("submit_task")] == [create, far]
        await peer.ack(far)
        await peer.refuse(create, "overloaded", **too_much)
        for command in (create, *submits, cancel):
            assert await peer.expect(command["type"]) == command
            await peer.ack(command)
        for task in (*tasks, elsewhere):
            await soon(task.accepted)
        await soon(cancelling)
        assert len(hub._unanswered._commands) == 0


async def test_commands_that_are_too_big_or_no_json_are_not_sent(server: FakeHub) -> None:
    async with client(server) as hub:
        peer = await server.welcome(message_bytes=500)
        await until(lambda: hub.state == "live")
        session = hub.create(session_id=SESSION)
        for prompt, error in (("ü" * 300, MessageTooBig), ("\ud800", ValueError)):
            with pytest.raises(error):
                session.submit(prompt)
        with pytest.raises(ValueError, match="JSON"):
            hub.create(metadata={"x": float("nan")})
        with pytest.raises(TypeError):
            hub.create(metadata={"x": object()})
        assert session.tasks == ()
        await peer.expect("create_session")
        await peer.expect("submit_task", taskId=session.submit("small").id)


async def test_a_message_the_hub_found_too_big_is_not_sent_again(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        big, small = session.submit("b" * 2000), session.submit("small")
        peer = await server.welcome()
        await peer.expect("create_session")
        await peer.expect("submit_task", taskId=big.id)
        await peer.close(1009)
        with pytest.raises(MessageTooBig):
            await soon(big.accepted)
        peer = await server.welcome()
        await peer.expect("create_session")
        await peer.expect("submit_task", taskId=small.id)


async def test_leaving_while_it_connects_pauses_or_talks(server: FakeHub) -> None:
    before = asyncio.all_tasks()
    async with client(server):
        pass
    async with client(server):
        await server.accept()
    async with client(server, backoff=lambda attempt: 3600.0) as hub:
        (await server.accept()).reset()
        await until(lambda: hub.lost)
    async with client(server, get_token=lambda: asyncio.Event().wait()):
        await asyncio.sleep(0)
    async with connect("ws://127.0.0.1:1", token="t", backoff=lambda attempt: 3600.0) as hub:
        await until(lambda: hub.lost)
        assert state_of(hub) == "connecting"
    for peer in server.accepted:
        peer.reset()
    await until(lambda: asyncio.all_tasks() <= before)


async def test_what_waits_is_told_that_the_client_was_closed(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        task, feed = session.submit("x"), session.events()
        waiting = [asyncio.ensure_future(what) for what in (session.ready, task.finished, anext(feed), session.end())]
        await (await server.welcome()).expect("create_session")
    await asyncio.wait(waiting)
    assert [type(future.exception()) for future in waiting] == [HubClosed] * 4
    await hub.close()
    with pytest.raises(RuntimeError, match="once"):
        await hub.__aenter__()


async def test_cancelling_the_block_is_not_swallowed_and_leaves_nothing(server: FakeHub) -> None:
    before = asyncio.all_tasks()

    async def program() -> None:
        async with client(server) as hub:
            await hub.create(session_id=SESSION).ready

    for deaf in (False, True):
        running = asyncio.create_task(program())
        peer = await server.welcome()
        await peer.expect("create_session")
        if deaf:
            # Takes the goodbye and says nothing, so that leaving takes a moment; a second cancel comes in it.
            peer.connection.transport.pause_reading()
        running.cancel()
        await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        peer.reset()
    await until(lambda: asyncio.all_tasks() <= before)


async def test_a_fault_of_ones_own_is_raised_at_the_end_of_the_block(server: FakeHub) -> None:
    def backoff(attempt: int) -> float:
        raise ZeroDivisionError("backoff")

    hub = client(server, backoff=backoff)
    with pytest.raises(ZeroDivisionError):
        async with hub:
            session = hub.create()
            (await server.accept()).reset()
            with pytest.raises(HubClosed, match="fault"):
                await soon(session.ready)


async def test_the_error_of_the_block_is_not_hidden_by_a_fault_of_the_client(server: FakeHub) -> None:
    def backoff(attempt: int) -> float:
        raise ZeroDivisionError("backoff")

    with pytest.raises(KeyError, match="mine") as raised:
        async with client(server, backoff=backoff) as hub:
            (await server.accept()).reset()
            closed = await soon(hub.wait_closed())
            raise KeyError("mine")
    assert isinstance(closed.__cause__, ZeroDivisionError)
    assert "ZeroDivisionError" in raised.value.__notes__[0]


async def test_before_and_after_the_block_nothing_is_taken(server: FakeHub) -> None:
    hub = client(server)
    with pytest.raises(RuntimeError, match="async with"):
        hub.create()
    async with hub:
        pass
    with pytest.raises(HubClosed):
        hub.open(SESSION)
    with pytest.raises(HubClosed):
        await hub.send({"type": "cancel_task", "taskId": TASK})


async def test_commands_with_methods_of_their_own_are_not_sent_raw(server: FakeHub) -> None:
    async with client(server) as hub:
        with pytest.raises(ValueError, match="method of its own"):
            await hub.send({"type": "attach_session", "sessionId": SESSION})
        sending = asyncio.create_task(hub.send({"type": "suspend_task", "taskId": TASK, "id": "mine"}))
        peer = await server.welcome()
        command = await peer.expect("suspend_task", taskId=TASK)
        assert command["id"] != "mine"
        await peer.ack(command, taskId=TASK, seq=4)
        assert (await soon(sending)).get("seq") == 4


async def test_a_message_larger_than_any_hub_sends_ends_the_connection(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION)
        peer = await server.welcome()
        await peer.ack(await peer.expect("create_session"))
        await peer.send(attached(1, 1), created())
        await until(lambda: session.cursor == "e1.1")
        await peer.send(json.dumps(event("message", 2, messageId="m", role="assistant", text="x" * (17 * 1024 * 1024))))
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.1")
