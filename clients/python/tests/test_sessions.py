"""Sessions and tasks over connections that break, against a hub that follows a script."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from fake_hub import (
    OTHER,
    PATIENCE,
    SESSION,
    TASK,
    FakeHub,
    Message,
    Peer,
    attached,
    caught_up,
    created,
    event,
    snapshot,
    soon,
    state_of,
    task_info,
    token,
    until,
)
from test_connection import client

import agent_hub_client.task
from agent_hub_client import (
    Attached,
    Detached,
    Event,
    FellBehind,
    Hub,
    HubError,
    OutcomeUnknown,
    Session,
    SteerReceipt,
    TaskOutcome,
)

USAGE = {"inputTokens": 1, "outputTokens": 1}


async def begin(server: FakeHub, hub: Hub) -> tuple[Session, Peer]:
    """A session that is created and live at event 1."""
    session = hub.create(session_id=SESSION)
    peer = await server.welcome()
    await peer.ack(await peer.expect("create_session", sessionId=SESSION), seq=1)
    await peer.send(attached(1, 1), created(), caught_up(1))
    await soon(session.ready)
    await until(lambda: session.state == "live")
    return session, peer


def record(session: Session) -> list[Any]:
    """What is applied, as numbers, and `kept` or `reset` for an attach."""
    seen: list[Any] = []
    session.on_event(lambda what: seen.append(("kept" if what.kept else "reset") if isinstance(what, Attached) else what["seq"]))
    return seen


async def test_a_task_from_submit_to_its_end(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.submit("Birds?", on_busy="interrupt", timeout_ms=5, context="c", tools=["t"], options={"topP": 1}, task_id=TASK)
        assert task.status == "submitted"
        command = await peer.expect("submit_task", sessionId=SESSION, taskId=TASK, prompt="Birds?", onBusy="interrupt", timeoutMs=5)
        assert (command["context"], command["tools"], command["options"]) == ("c", ["t"], {"topP": 1})
        events = aiter(task)
        script = [
            (event("task_queued", 2, prompt="Birds?", position=0, timeoutMs=5), "queued", ""),
            (event("task_started", 3, attempt=1, messageId="m1"), "running", ""),
            (event("step", 4, index=1, name="model", phase="started"), "running", ""),
            (token(5, "Gannet"), "running", "Gannet"),
            (token(6, ", tern"), "running", "Gannet, tern"),
            (event("message", 7, messageId="m2", role="assistant", text="Gannet, tern"), "running", "Gannet, tern"),
            (event("task_completed", 8, result="Gannet, tern", usage=USAGE), "completed", "Gannet, tern"),
        ]
        for message, status, text in script:
            await peer.send(message)
            assert await soon(anext(events)) == message
            assert (task.status, task.text()) == (status, text)
        with pytest.raises(StopAsyncIteration):
            await soon(anext(events))
        # The ack comes last, and is waited for by nobody.
        await peer.ack(command, seq=2)
        await soon(task.accepted)
        assert await soon(task.finished) == TaskOutcome("completed", result="Gannet, tern")
        assert [message async for message in task] == [message for message, _, _ in script]
        assert session.task(TASK) is task


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (
            event("task_failed", 3, code="upstream_error", message="no", retryable=True),
            TaskOutcome("failed", error={"code": "upstream_error", "message": "no"}),
        ),
        (event("task_cancelled", 3, by="ada", partial="Ga", upstreamStopped=True), TaskOutcome("cancelled", partial="Ga")),
        (event("task_timeout", 3, timeoutMs=1, upstreamStopped=True), TaskOutcome("timeout")),
    ],
)
async def test_other_ends_are_no_exceptions(server: FakeHub, end: Message, outcome: TaskOutcome) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.submit("x", task_id=TASK)
        await peer.send(token(2, "Ga"), end)
        assert await soon(task.finished) == outcome
        assert task.status == outcome.status


async def test_a_refused_submit(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.submit("x")
        await peer.refuse(await peer.expect("submit_task"), "busy", retryable=True, retryAfterMs=50, details={"limit": 1})
        for waiting in (task.accepted, task.finished, anext(aiter(task))):
            with pytest.raises(HubError) as raised:
                await soon(waiting)
            error = raised.value
            assert (error.code, error.retryable, error.retry_after_ms, error.details) == ("busy", True, 50, {"limit": 1})
        assert task.status == "refused"


async def test_a_refused_submit_may_be_repeated_under_its_id(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        refused = session.submit("x", task_id=TASK)
        await peer.refuse(await peer.expect("submit_task"), "queue_full", retryable=True)
        with pytest.raises(HubError, match="queue_full"):
            await soon(refused.accepted)
        task = session.submit("x", task_id=TASK)
        assert (task.status, refused.status) == ("submitted", "refused")
        assert session.submit("x", task_id=TASK) is task is session.task(TASK)
        assert session.tasks == (task,)
        await peer.ack(await peer.expect("submit_task", taskId=TASK), taskId=TASK)
        await soon(task.accepted)
        await peer.send(event("task_completed", 2, result="y", usage=USAGE))
        assert (await soon(task.finished)).result == "y"
        with pytest.raises(HubError, match="queue_full"):
            await soon(refused.finished)


async def test_duplicates_are_ignored_and_gaps_filled(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        seen = record(session)
        await peer.send(token(2, "b"), token(2, "b"), created(), token(4, "d"), token(3, "c"), token(5, "e"))
        await peer.expect("attach_session", sessionId=SESSION, after="e1.2")
        assert state_of(session) == "replaying"
        await peer.send(attached(3, 5), token(3, "c"), token(4, "d"), token(5, "e"), caught_up(5), token(6, "f"))
        await until(lambda: session.cursor == "e1.6")
        assert seen == [2, "kept", 3, 4, 5, 6]
        assert session.task(TASK).text() == "bcdef"
        assert state_of(session) == "live"
        # The next gap is another one.
        await peer.send(token(8, "h"))
        await until(lambda: session.state == "replaying")
        assert session._later is None
        await peer.expect("attach_session", sessionId=SESSION, after="e1.6")


async def test_the_same_gap_again_is_not_asked_for_as_fast_as_it_is_answered(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        await peer.send(token(3, "c"))
        await peer.expect("attach_session", after="e1.1")
        await peer.send(attached(2, 3), token(3, "c"))
        await until(lambda: session._later is not None)
        # A new connection does not wait for that.
        later = session._later
        assert later is not None
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.1")
        await peer.send(attached(2, 3), token(2, "b"), token(3, "c"), caught_up(3))
        await until(lambda: session.state == "live")
        assert session._later is None
        assert later.cancelled()
        assert session.task(TASK).text() == "bc"


async def test_events_of_unknown_types_count(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        feed = session.events()
        strange = [event("task_dreamt", 2, of="sheep"), event("session_dreamt", 3, task=None), event("token", 4, unknown=1) | {"more": 1}]
        await peer.send(*strange, token(5, "a"))
        assert [await soon(anext(feed)) for _ in range(4)] == [*strange, token(5, "a")]
        assert session.task(TASK).text() == "a"


async def test_an_ack_lost_after_the_effect(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        seen = record(session)
        task = session.submit("x", task_id=TASK)
        first = await peer.expect("submit_task")
        await peer.send(event("task_queued", 2, prompt="x", position=0, timeoutMs=1))
        await until(lambda: session.cursor == "e1.2")
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.2")
        # The same command, word for word, so that the hub recognises it.
        assert await peer.expect("submit_task") == first
        await peer.ack(first, taskId=TASK)
        await peer.send(attached(3, 2), caught_up(2))
        await soon(task.accepted)
        await until(lambda: session.state == "live")
        assert seen == [2, "kept"]


async def test_commands_are_said_again_in_their_order_until_they_are_answered(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.create(session_id=SESSION, agent="a", tools=["t"], model="m", name="n", tags=["g"], metadata={"k": None})
        one, two = session.submit("one"), session.submit("two")
        cancelling = asyncio.create_task(two.cancel("enough"))
        peer = await server.welcome()
        create = await peer.expect("create_session", agent="a", tools=["t"], model="m", name="n", tags=["g"], metadata={"k": None})
        said = [create] + [await peer.expect(kind) for kind in ("submit_task", "submit_task", "cancel_task")]
        # Attached, but its ack and that of the first submit are lost.
        await peer.send(attached(1, 2), created(), event("task_queued", 2, task=one.id, prompt="one", position=0, timeoutMs=1))
        await until(lambda: session.cursor == "e1.2")
        peer.reset()
        peer = await server.welcome()
        assert [await peer.expect(command["type"]) for command in said] == said
        await peer.send(attached(1, 2), created())
        await peer.ack(said[0])
        await peer.ack(said[1])
        await soon(session.ready)
        await soon(one.accepted)
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.2")
        assert [await peer.expect(command["type"]) for command in said[2:]] == said[2:]
        await peer.ack(said[2])
        await peer.refuse(said[3], "already_terminal")
        # It was said twice, so the first one may have done it; but this one ended by itself.
        await peer.send(attached(3, 2), event("task_completed", 3, task=two.id, result="", usage=USAGE))
        with pytest.raises(HubError, match="already_terminal"):
            await soon(cancelling)
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.3")
        await soon(two.accepted)


async def test_a_repetition_that_is_refused_because_the_first_one_did_it(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task, stopped = session.task(TASK), session.task(OTHER)
        await peer.send(event("input_requested", 2, requestId="r1", kind="input"))
        await until(lambda: task.inputs)
        (question,) = task.inputs

        def all_of_it() -> list[asyncio.Task[None]]:
            calls = (stopped.cancel(), task.suspend(), question.respond(payload=7), question.respond(payload=8), session.end())
            return [asyncio.ensure_future(call) for call in calls]

        kinds = ("cancel_task", "suspend_task", "respond_input", "respond_input", "end_session")
        codes = ("already_terminal", "busy", "already_resolved", "already_resolved", "already_terminal")
        first = all_of_it()
        for kind, code in zip(kinds, codes, strict=True):
            await peer.refuse(await peer.expect(kind), code)
        # Nothing was said before, so the refusal is what it is.
        assert [str(error) for error in await soon(asyncio.gather(*first, return_exceptions=True))] == [f"{code}: {code}" for code in codes]

        second = all_of_it()
        for kind in kinds:
            await peer.expect(kind)
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session")
        for kind, code in zip(kinds, codes, strict=True):
            await peer.refuse(await peer.expect(kind), code)
        await peer.send(
            attached(3, 5),
            event("task_cancelled", 3, task=OTHER, by="ada", partial="", upstreamStopped=True),
            event("input_resolved", 4, requestId="r1", outcome="accept", by="ada", payload=7),
            event("task_suspended", 5, reason="pause"),
            caught_up(5),
        )
        results = await soon(asyncio.gather(*second, return_exceptions=True))
        assert str(results.pop(3)) == "already_resolved: already_resolved"
        assert results == [None] * 4


async def test_what_nobody_waits_for_is_not_said_again(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await task.cancel()
        await peer.expect("cancel_task")
        peer.reset()
        suspending = asyncio.create_task(task.suspend("pause"))
        peer = await server.welcome()
        await peer.expect("attach_session")
        await peer.ack(await peer.expect("suspend_task", taskId=TASK, reason="pause"))
        await soon(suspending)


async def test_a_snapshot_takes_the_place_of_what_was_known(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        done, gone, running, lost = (session.submit(name) for name in ("done", "gone", "running", "lost"))
        for task in (done, gone, running):
            await peer.ack(await peer.expect("submit_task", taskId=task.id))
            await soon(task.accepted)
        await peer.send(token(2, "old", task=running.id), token(3, "old", task=done.id))
        await until(lambda: session.cursor == "e1.3")
        events = aiter(running)
        assert (await soon(anext(events)))["seq"] == 2
        feed = session.events()
        steering = asyncio.create_task(running.steer("left"))
        await peer.expect("submit_task", taskId=lost.id)
        await peer.ack(await peer.expect("steer_task"))
        peer.reset()

        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.3")
        messages = (
            {"messageId": "m8", "role": "assistant", "text": "all of it", "taskId": done.id, "seq": 4},
            {"messageId": "m9", "role": "assistant", "text": "new", "taskId": running.id, "seq": 5, "partial": True},
        )
        tasks = [
            task_info("completed", task=done.id),
            task_info("suspended", task=running.id, partial={"messageId": "m9", "text": "new"}),
        ]
        pending = ({"requestId": "r1", "kind": "input", "prompt": "How?", "taskId": running.id},)
        state = snapshot(*tasks, messages=messages, pending=pending)
        await peer.send(attached(10, 9, epoch="e2", snapshot=state), caught_up(9))
        reset = await soon(anext(feed))
        assert reset == Attached(SESSION, "e2", False, 9, 10, state)  # type: ignore[arg-type]
        assert session.snapshot == state
        assert await soon(done.finished) == TaskOutcome("completed", result="all of it")
        assert [message async for message in done] == []
        for waiting in (gone.finished, steering):
            with pytest.raises(OutcomeUnknown):
                await soon(waiting)
        assert (running.status, running.text()) == ("suspended", "new")
        assert [(pending.request_id, pending.prompt) for pending in running.inputs] == [("r1", "How?")]

        # What was not answered is said again, and the events go on behind the snapshot.
        await peer.ack(await peer.expect("submit_task", taskId=lost.id))
        await soon(lost.accepted)
        await peer.send(token(9, "void", task=running.id), token(10, "er", task=running.id, message="m9"))
        assert (await soon(anext(events)))["seq"] == 10
        assert running.text() == "newer"
        assert session.cursor == "e2.10"


async def test_a_log_that_begins_again_without_a_snapshot(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        seen = record(session)
        await peer.send(token(2, "old"))
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session")
        await peer.send(attached(1, 1, epoch="e2"), created(), token(2, "new"))
        await until(lambda: session.cursor == "e2.2")
        assert seen[-3:] == ["reset", 1, 2]
        assert session.task(TASK).text() == "new"


async def test_opening_a_session_from_a_snapshot_a_cursor_or_its_start(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.open(SESSION)
        assert hub.open(SESSION) is session
        with pytest.raises(ValueError, match="followed already"):
            hub.open(SESSION, after="e1.1")
        with pytest.raises(ValueError, match="followed already"):
            hub.create(session_id=SESSION)
        peer = await server.welcome()
        command = await peer.expect("attach_session", sessionId=SESSION)
        assert "after" not in command
        info = task_info("running", partial={"messageId": "m2", "text": "so far"})
        await peer.ack(command)
        assert not session.ready.done()
        await peer.send(attached(8, 7, snapshot=snapshot(info)), caught_up(7))
        await soon(session.ready)
        (task,) = session.tasks
        assert (task.id, task.status, task.text(), session.cursor) == (TASK, "running", "so far", "e1.7")
        await peer.send(token(8, " and on"))
        await until(lambda: task.text() == "so far and on")

        leaving = asyncio.create_task(session.detach())
        await peer.ack(await peer.expect("detach_session", sessionId=SESSION))
        await soon(leaving)
        with pytest.raises(Detached):
            await soon(task.finished)
        events = aiter(task)
        assert (await anext(events))["seq"] == 8
        with pytest.raises(Detached):
            await anext(events)
        for use in (session.events, lambda: session.submit("x")):
            with pytest.raises(Detached):
                use()
        await peer.send(token(9, "on its way"))

        session = hub.open(SESSION, after="e1.5")
        await peer.ack(await peer.expect("attach_session", after="e1.5"))
        await peer.send(attached(6, 6), token(6, "x"), caught_up(6))
        await until(lambda: session.state == "live")
        leaving = asyncio.create_task(session.detach())
        await peer.ack(await peer.expect("detach_session"))
        await soon(leaving)

        # The first answer tells the epoch; nothing of it is shown.
        session = hub.open(SESSION, after="start")
        seen = record(session)
        await peer.ack(await peer.expect("attach_session"))
        await peer.send(attached(7, 6, snapshot=snapshot()), caught_up(6), token(7, "early"))
        await peer.expect("attach_session", after="e1.0")
        assert seen == []
        assert state_of(session) == "connecting"
        await peer.send(attached(1, 7), created())
        await until(lambda: session.cursor == "e1.1")
        assert seen == ["kept", 1]
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.1")


async def test_an_open_that_is_said_again_goes_on_from_where_it_stands(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.open(SESSION, after="e1.3")
        peer = await server.welcome()
        await peer.expect("attach_session", after="e1.3")
        await peer.send(attached(4, 5), token(4, "x"))
        await until(lambda: session.cursor == "e1.4")
        assert not session.ready.done()
        peer.reset()
        peer = await server.welcome()
        await peer.ack(await peer.expect("attach_session", after="e1.4"))
        await soon(session.ready)


async def test_cursors_outlive_the_client(server: FakeHub) -> None:
    cursors: dict[str, str] = {}
    async with client(server, cursors=cursors) as hub:
        _, peer = await begin(server, hub)
        await peer.send(token(2, "a"))
        await until(lambda: cursors == {SESSION: "e1.2"})
    async with client(server, cursors=cursors) as hub:
        session = hub.open(SESSION)
        peer = await server.welcome()
        await peer.expect("attach_session", sessionId=SESSION, after="e1.2")
        # Somebody deletes it: nothing to go on with.
        await peer.send(attached(3, 3), event("session_ended", 3, task=None, reason="deleted"))
        await until(lambda: session.ended == "deleted")
        assert cursors == {}
        assert hub.sessions == ()


async def test_cursors_that_cannot_be_stored_are_a_problem_and_no_more(server: FakeHub) -> None:
    class Full(dict[str, str]):
        def __setitem__(self, key: str, value: str) -> None:
            raise OSError("no space left")

    async with client(server, cursors=Full()) as hub:
        problems: list[Exception] = []
        hub.on_problem(problems.append)
        session, peer = await begin(server, hub)
        seen = record(session)
        await peer.send(token(2, "a"))
        await until(lambda: seen == [2])
        assert {type(problem) for problem in problems} == {OSError}


async def test_an_end_that_is_not_in_the_log_any_more(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        await peer.send(token(2, "a"), event("task_completed", 3, result="a", usage=USAGE))
        await soon(task.finished)
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session")
        state = snapshot(task_info("running", partial={"messageId": "m2", "text": "b"}))
        await peer.send(attached(3, 2, epoch="e2", snapshot=state), token(3, "c"))
        await until(lambda: session.cursor == "e2.3")
        again = session.task(TASK)
        assert (again.status, again.text()) == ("running", "bc")
        assert (task.status, task.text(), (await task.finished).result) == ("completed", "a", "a")


async def test_an_ended_session_is_followed_to_its_end_and_no_further(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task, feed = session.task(TASK), session.events()
        ending = asyncio.create_task(session.end())
        command = await peer.expect("end_session", sessionId=SESSION)
        await peer.send(event("session_ended", 2, task=None, reason="ended"))
        await peer.ack(command)
        await soon(ending)
        assert [message["seq"] async for message in feed if not isinstance(message, Attached)] == [2]
        assert (session.state, session.ended) == ("closed", "ended")
        with pytest.raises(Detached):
            await soon(task.finished)
        # The hub says what it thinks of late commands.
        late = session.submit("late")
        await peer.refuse(await peer.expect("submit_task"), "already_terminal")
        with pytest.raises(HubError, match="already_terminal"):
            await soon(late.accepted)
        steering = asyncio.create_task(task.steer("late"))
        await peer.refuse(await peer.expect("steer_task"), "already_terminal")
        with pytest.raises(HubError, match="already_terminal"):
            await soon(steering)
        peer.reset()
        await server.welcome()
        await until(lambda: hub.state == "live")


async def test_an_ended_session_that_is_opened_from_a_snapshot(server: FakeHub) -> None:
    async with client(server) as hub:
        session = hub.open(SESSION)
        feed, unknown = session.events(), session.task(OTHER)
        peer = await server.welcome()
        command = await peer.expect("attach_session")
        state = snapshot(task_info("completed", result="a"))
        state["session"]["status"] = "ended"
        await peer.send(attached(8, 7, snapshot=state), caught_up(7))
        await peer.ack(command)
        # Its log is readable, so opening it is no failure.
        await soon(session.ready)
        async with asyncio.timeout(PATIENCE):
            assert [what.snapshot for what in [item async for item in feed] if isinstance(what, Attached)] == [state]
        assert (session.state, session.ended, session.snapshot) == ("closed", "ended", state)
        assert (await soon(session.task(TASK).finished)).result == "a"
        with pytest.raises(Detached):
            await soon(unknown.finished)
        assert hub.sessions == ()
        await until(lambda: hub.state == "live")


async def test_a_session_that_is_gone_and_one_that_has_to_wait(server: FakeHub) -> None:
    async with client(server) as hub:
        gone, waits, never = hub.open(SESSION), hub.open(OTHER), hub.open(TASK)
        why: list[Exception] = []
        gone.on_detached(why.append)
        never.on_detached(why.append)
        peer = await server.welcome()
        for session in (gone, waits):
            await peer.ack(await peer.expect("attach_session", sessionId=session.id))
            await peer.send(attached(1, 0, session=session.id, snapshot=snapshot()), caught_up(0, session=session.id))
        await peer.refuse(await peer.expect("attach_session", sessionId=TASK), "forbidden")
        with pytest.raises(HubError, match="forbidden"):
            await soon(never.ready)
        await soon(gone.ready)
        await soon(waits.ready)
        peer.reset()
        peer = await server.welcome()
        await peer.refuse(await peer.expect("attach_session", sessionId=SESSION), "session_not_found")
        await peer.refuse(await peer.expect("attach_session", sessionId=OTHER), "overloaded", retryable=True, retryAfterMs=1)
        await peer.ack(await peer.expect("attach_session", sessionId=OTHER, after="e1.0"))
        await peer.send(attached(1, 0, session=OTHER), caught_up(0, session=OTHER))
        await until(lambda: waits.state == "live")
        assert state_of(gone) == "closed"
        assert [error.code for error in why if isinstance(error, HubError)] == ["session_not_found"]
        assert hub.sessions == (waits,)


async def test_several_sessions_on_one_connection(server: FakeHub) -> None:
    async with client(server) as hub:
        one, two = hub.create(session_id=SESSION), hub.create(session_id=OTHER)
        changes: list[str] = []
        one.on_change(lambda: changes.append(one.state))
        forget = two.on_change(lambda: changes.append("two"))
        forget()
        forget()
        peer = await server.welcome()
        for session in (one, two):
            await peer.ack(await peer.expect("create_session", sessionId=session.id))
            await peer.send(attached(1, 1, session=session.id), created(session=session.id), caught_up(1, session=session.id))
        await until(lambda: hub.state == "live")
        await peer.send(token(2, "1"), token(2, "2", session=OTHER, task=OTHER), token(3, "1"))
        await until(lambda: (one.cursor, two.cursor) == ("e1.3", "e1.2"))
        assert (one.task(TASK).text(), two.task(OTHER).text()) == ("11", "2")
        await peer.send(token(5, "gap"))
        await peer.expect("attach_session", sessionId=SESSION, after="e1.3")
        assert (hub.state, one.state, two.state) == ("replaying", "replaying", "live")
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session", sessionId=SESSION, after="e1.3")
        await peer.expect("attach_session", sessionId=OTHER, after="e1.2")
        assert changes == ["replaying", "live", "replaying", "stale", "replaying"]
    assert changes[-1] == "closed"


async def test_steering(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        steering = [asyncio.create_task(task.steer(text, when="now", steer_id=id)) for text, id in (("left", OTHER), ("right", SESSION))]
        for text in ("left", "right"):
            await peer.ack(await peer.expect("steer_task", taskId=TASK, input=text, when="now"))
        await peer.send(
            event("steer_accepted", 2, steerId=OTHER, input="left", when="now"),
            event("steer_accepted", 3, steerId=SESSION, input="right", when="now"),
            event("steer_applied", 4, steerId=OTHER, step=2, messageId="m3", input="left"),
            event("steer_rejected", 5, steerId=SESSION, reason="the task has ended", input="right"),
        )
        assert await soon(steering[0]) == SteerReceipt(OTHER, "applied", step=2)
        assert await soon(steering[1]) == SteerReceipt(SESSION, "rejected", reason="the task has ended")
        assert session._steers == {}


async def test_a_submit_that_steers(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.submit("left", on_busy="steer", task_id=OTHER)
        await peer.ack(await peer.expect("submit_task"))
        await peer.send(event("steer_accepted", 2, steerId=OTHER, input="left", when="next_step"))
        assert (await soon(task.finished)).status == "steered"


async def test_a_submit_that_steers_and_whose_event_is_behind_a_snapshot(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.submit("left", on_busy="steer", task_id=OTHER)
        command = await peer.expect("submit_task")
        peer.reset()
        peer = await server.welcome()
        await peer.expect("attach_session")
        await peer.send(attached(9, 8, epoch="e2", snapshot=snapshot(task_info("running"))), caught_up(8))
        await peer.ack(await peer.expect("submit_task"), taskId=command["taskId"])
        await soon(task.accepted)
        assert not task.finished.done()
        # That one became a task. This one steers, and no event says so.
        again = session.submit("left", on_busy="steer", task_id=SESSION)
        await peer.ack(await peer.expect("submit_task"), taskId=TASK)
        assert (await soon(again.finished)).status == "steered"


async def test_tasks_that_ended_before_the_session_was_opened(server: FakeHub) -> None:
    async with client(server) as hub:
        peer = await server.welcome()
        for id, begins in ((SESSION, attached(6, 7)), (OTHER, attached(6, 5, session=OTHER, snapshot=snapshot(task_info("running"))))):
            session = hub.open(id, after="e1.5" if id == SESSION else None)
            running, early = session.task(TASK), session.task("early")
            mine = session.submit("x")
            await peer.ack(await peer.expect("attach_session", sessionId=id))
            await peer.ack(await peer.expect("submit_task"))
            if id == SESSION:
                await peer.send(begins, token(6, "a"), token(7, "b"))
                await until(lambda running=running: running.text() == "ab")  # type: ignore[misc]
            else:
                await peer.send(begins)
                await until(lambda running=running: running.status == "running")  # type: ignore[misc]
            await soon(mine.accepted)
            assert not early.finished.done()
            await peer.send(caught_up(7, session=id))
            for waiting in (early.finished, early.accepted, anext(aiter(early)), session.task("late").finished):
                with pytest.raises(OutcomeUnknown):
                    await soon(waiting)
            assert not running.finished.done()
            assert not mine.finished.done()
        # It was not early but late: who asks anew gets what there is.
        await peer.send(event("task_completed", 6, task="late", session=OTHER, result="x", usage=USAGE))
        await until(lambda: session.cursor == "e1.6")
        assert (await soon(session.task("late").finished)).result == "x"


async def test_a_person_in_between(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        await peer.send(
            event("tool_call", 2, callId="t1", tool="send_mail", arguments={"to": "all"}),
            event("input_requested", 3, requestId="r1", kind="approval", prompt="Send?", callId="t1", expiresAt="2026-11-21T14:02:08.000Z"),
            event("input_requested", 4, requestId="r2", kind="input", schema={"type": "null"}),
            event("task_suspended", 5, reason="input"),
        )
        await until(lambda: task.status == "suspended")
        approval, question = task.inputs
        assert (approval.tool, approval.arguments, approval.prompt, question.schema) == (
            "send_mail",
            {"to": "all"},
            "Send?",
            {"type": "null"},
        )
        answering = asyncio.create_task(approval.respond(edited_arguments={"to": "me"}))
        command = await peer.expect("respond_input", requestId="r1", outcome="accept", editedArguments={"to": "me"})
        assert "payload" not in command
        await peer.ack(command)
        await peer.send(event("input_resolved", 6, requestId="r1", outcome="accept", by="ada"))
        await soon(answering)
        await until(lambda: task.inputs == (question,))
        answering = asyncio.create_task(question.respond(payload=None))
        command = await peer.expect("respond_input", requestId="r2")
        assert command["payload"] is None
        await peer.refuse(command, "already_resolved")
        with pytest.raises(HubError, match="already_resolved"):
            await soon(answering)
        await peer.send(event("task_resumed", 7), event("task_completed", 8, result=None, usage=USAGE))
        assert (await soon(task.finished)).status == "completed"
        assert task.inputs == ()


async def test_the_other_commands_of_a_task(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        about = {"sessionId": SESSION, "taskId": TASK}
        for call, kind, fields in (
            (task.suspend(), "suspend_task", {}),
            (task.resume(), "resume_task", {}),
            (task.resume(None, step_id="s"), "resume_task", {"data": None, "stepId": "s"}),
            (task.tool_result("t1", None), "tool_result", {"callId": "t1", "output": None}),
            (task.tool_result("t1", error="no"), "tool_result", {"callId": "t1", "error": "no"}),
        ):
            calling = asyncio.create_task(call)
            command = await peer.expect(kind)
            assert {name: value for name, value in command.items() if name not in ("type", "id")} == about | fields
            await peer.ack(command)
            await soon(calling)
        wrong: list[dict[str, Any]] = [{}, {"output": 1, "error": "no"}]
        for arguments in wrong:
            with pytest.raises(ValueError, match="either"):
                await task.tool_result("t1", **arguments)


async def test_text_that_a_crash_made_void_disappears(server: FakeHub) -> None:
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        said = event("message", 3, messageId="m2", role="assistant", text="First.")
        await peer.send(token(2, "First."), said, token(4, "voi", message="m4"), token(5, "d", message="m4"))
        await until(lambda: task.text() == "First.\n\nvoid")
        await peer.send(event("task_recovering", 6, attempt=2, discardAfter=3))
        await until(lambda: task.text() == "First.")
        await peer.send(event("task_failed", 7, code="interrupted", message="no", retryable=True, partial="void", messageId="m4"))
        assert (await soon(task.finished)).partial == "void"
        assert task.text() == "First.\n\nvoid"


async def test_who_iterates_too_slowly_is_told(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_hub_client.task, "_EVENTS", 3)
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        task = session.task(TASK)
        assert isinstance(task._events, deque)
        early = aiter(task)
        await peer.send(*(token(seq, str(seq)) for seq in range(2, 7)), event("task_completed", 7, result="23456", usage=USAGE))
        await soon(task.finished)
        with pytest.raises(FellBehind):
            await anext(early)
        assert [message["seq"] async for message in task] == [5, 6, 7]
        assert task.text() == "23456"


async def test_a_long_replay_lets_others_run(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    # Far less than what comes in one piece from the network.
    monkeypatch.setattr("agent_hub_client.session._FEED", 128)
    count = 10_000
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        taken: list[int] = []

        async def take() -> None:
            async for what in session.events():
                taken.append(what["seq"] if not isinstance(what, Attached) else 0)

        taking = asyncio.create_task(take())
        await asyncio.sleep(0)
        await peer.send(*(token(seq, "x") for seq in range(2, count + 2)))
        await until(lambda: len(taken) == count or taking.done())
        assert taken == list(range(2, count + 2))
        taking.cancel()
        await asyncio.wait([taking])


async def test_finished_tasks_are_forgotten_after_a_while(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_hub_client.session._ENDED_TASKS", 2)
    async with client(server) as hub:
        session, peer = await begin(server, hub)
        running = session.task("running")
        ids = [str(number) for number in range(6)]
        for number, id in enumerate(ids):
            await peer.send(event("task_completed", number + 2, task=id, result="", usage=USAGE))
        await until(lambda: session.cursor == "e1.7")
        assert running in session.tasks
        assert [task.id for task in session.tasks if task is not running] == ids[-3:]


def test_an_event_is_a_plain_dictionary() -> None:
    made: Event = {"type": "task_resumed", "sessionId": "s", "taskId": "t", "seq": 1, "at": "", "data": {}}
    assert made["seq"] == 1
