"""Against the real hub, over a network that breaks all the time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from fake_hub import until
from real_hub import WAYS, CuttingProxy, RealHub, cutting_proxy, real_hub

from agent_hub_client import Attached, Event, Hub, HubError, Session, Task, connect, jittered

CUTS = 30


class Applied:
    """What a program sees of a session, put together by nothing but the rule: append, and forget where it is told to."""

    def __init__(self, session: Session) -> None:
        self.events: list[Event] = []
        self.covered = 0  # by a snapshot
        session.on_event(self.take)

    def take(self, what: Event | Attached) -> None:
        if not isinstance(what, Attached):
            self.events.append(what)
        elif not what.kept:
            self.events.clear()
            self.covered = what.first - 1


async def cut_again_and_again(proxy: CuttingProxy, hub: Hub, rng: random.Random) -> int:
    cuts = 0
    while cuts < CUTS:
        await until(lambda: hub.state in ("live", "replaying"))
        await asyncio.sleep(rng.uniform(0, 0.06))
        cuts += proxy.cut(next(WAYS)) > 0
    return cuts


async def work(session: Session, rng: random.Random, enough: Callable[[], bool]) -> dict[str, Any]:
    """One program's tasks: some run to their end, some are cancelled, some steered; returns what it believes of them."""
    believed: dict[str, Any] = {}
    while not enough() or len(believed) < 6:
        task = session.submit(f"/pace 2 /tokens {rng.randrange(20, 120)}", on_busy="queue")
        steers = 0
        match rng.randrange(4):
            case 0:
                await asyncio.sleep(rng.uniform(0, 0.1))
                cancelled = await told(task.cancel("enough"))
            case 1:
                cancelled = False
                receipt = await told(task.steer("Say it shorter. /tokens 5", when=rng.choice(["now", "next_step"])))
                steers = 1 if receipt else 0
            case _:
                cancelled = False
        outcome = await task.finished
        about = {"status": outcome.status, "text": task.text(), "result": outcome.result}
        believed[task.id] = about | {"steers": steers, "cancelled": cancelled}
    return believed


async def told(command: Any) -> bool:
    """Whether it was carried out; the other answer is that the task had ended."""
    try:
        await command
    except HubError as error:
        if error.code != "already_terminal":
            raise
        return False
    return True


async def test_cuts_lose_and_repeat_nothing() -> None:
    seed = int(os.environ.get("SEED", random.randrange(1_000_000)))
    print(f"SEED={seed}")  # Shown when it fails.
    rng = random.Random(seed)
    async with (
        # A short heartbeat, so that a half-open connection is noticed soon.
        real_hub(AGENT_HUB_SERVER__HEARTBEAT="250ms") as hub_process,
        cutting_proxy(hub_process.port) as proxy,
        connect(proxy.url, token=hub_process.token, backoff=jittered(0.005, 0.05)) as hub,
    ):
        sessions = [hub.create() for _ in range(3)]
        applied = [Applied(session) for session in sessions]
        cutting = asyncio.create_task(cut_again_and_again(proxy, hub, rng))
        working = [asyncio.create_task(work(session, random.Random(rng.random()), cutting.done)) for session in sessions]
        async with asyncio.timeout(55):
            believed = [await working_on for working_on in working]
            assert await cutting == CUTS
        await until(lambda: proxy.made > CUTS and hub.state == "live")
        for session, seen, outcomes in zip(sessions, applied, believed, strict=True):
            await check(hub_process, session, seen, outcomes)


async def check(hub_process: RealHub, session: Session, seen: Applied, believed: dict[str, Any]) -> None:
    log = await hub_process.log(session.id)
    await until(lambda: seen.events and seen.events[-1]["seq"] == log[-1]["seq"])
    assert seen.covered == 0
    assert seen.events == log, "what was applied is the log, event by event"
    # Commands were said again and again; the hub did each once.
    kinds = Counter((event.get("taskId"), event["type"]) for event in log)
    queued = [event["taskId"] for event in log if event["type"] == "task_queued"]
    assert sorted(queued) == sorted(believed), "one task for each submit"
    for task_id, about in believed.items():
        ends = [event for event in log if event.get("taskId") == task_id and event["type"] in ENDS]
        assert [ENDS[end["type"]] for end in ends] == [about["status"]]
        assert kinds[task_id, "steer_accepted"] <= 1
        if about["steers"]:
            assert kinds[task_id, "steer_accepted"] == kinds[task_id, "steer_applied"] + kinds[task_id, "steer_rejected"] == 1
        assert kinds[task_id, "cancel_requested"] == (about["status"] == "cancelled")
        if about["cancelled"]:
            assert about["status"] == "cancelled"
        said: dict[str, str] = {}
        for event in (event for event in log if event.get("taskId") == task_id and event["type"] in ("token", "message")):
            message, data = event["data"]["messageId"], event["data"]
            said[message] = said.get(message, "") + data["token"] if event["type"] == "token" else data["text"]
        assert about["text"] == "\n\n".join(said.values())
        if about["status"] == "completed":
            assert about["result"] == list(said.values())[-1] == ends[0]["data"]["result"]


ENDS = {"task_completed": "completed", "task_failed": "failed", "task_cancelled": "cancelled", "task_timeout": "timeout"}


async def test_a_hub_that_is_killed_and_started_again() -> None:
    async with real_hub() as hub_process, connect(hub_process.url, token=hub_process.token, backoff=jittered(0.05, 0.2)) as hub:
        session = hub.create()
        seen = Applied(session)
        task = session.submit("/pace 10 /tokens 100")
        await until(lambda: len(task.text()) > 50)
        await hub_process.stop(signal.SIGKILL)
        late = session.submit("/tokens 3")
        await until(lambda: hub.state == "stale")
        await hub_process.start()
        async with asyncio.timeout(30):
            outcomes = [await task.finished, await late.finished]
        assert [outcome.status for outcome in outcomes] == ["completed"] * 2
        # Text that the crash made void is in the log, and not in what the task said.
        assert any(event["type"] == "task_recovering" for event in seen.events)
        assert [task.text(), late.text()] == [outcome.result for outcome in outcomes]
        log = await hub_process.log(session.id)
        await until(lambda: seen.events[-1]["seq"] == log[-1]["seq"])
        assert seen.events == log


async def test_a_program_that_comes_back_with_its_cursors(tmp_path: Any) -> None:
    cursors: dict[str, str] = {}
    async with real_hub() as hub_process:
        async with connect(hub_process.url, token=hub_process.token, cursors=cursors) as hub:
            session = hub.create(name="birds", tags=["sea"], metadata={"n": 1})
            task = session.submit("/pace 20 /tokens 150")
            async for event in task:
                if event["type"] == "token":
                    break
            before = session.cursor
        assert cursors == {session.id: before}
        # Something is missed: of a task that nothing was heard of since, the client could not tell that it has not ended before.
        while len(await hub_process.log(session.id)) <= int(str(before).split(".")[1]):
            await asyncio.sleep(0.005)
        seen: list[int] = []
        async with connect(hub_process.url, token=hub_process.token, cursors=cursors) as hub:
            again = hub.open(session.id)
            again.on_event(lambda what: None if isinstance(what, Attached) else seen.append(what["seq"]))
            outcome = await again.task(task.id).finished
            assert outcome.status == "completed"
            first = int(str(before).split(".")[1]) + 1
            assert seen[:1] == [first]
            # Also without a cursor, from a snapshot.
            await again.detach()
            del cursors[session.id]
            third = hub.open(session.id)
            await third.ready
            assert third.snapshot is not None
            assert third.snapshot["session"].get("name") == "birds"
            assert third.task(task.id).text() == outcome.result
            # And from the start.
            await third.detach()
            whole = hub.open(session.id, after="start")
            collected: list[Event] = []
            whole.on_event(lambda what: None if isinstance(what, Attached) else collected.append(what))
            await until(lambda: whole.state == "live")
            assert collected == await hub_process.log(session.id)


async def test_a_question_is_answered_once(tmp_path: Any) -> None:
    async with real_hub() as hub_process, connect(hub_process.url, token=hub_process.token) as hub:
        session = hub.create()
        task: Task = session.submit("/ask How old are you?")
        await until(lambda: task.inputs)
        (question,) = task.inputs
        await question.respond(payload="7")
        with pytest.raises(HubError, match=r"already_resolved|not_found|already_terminal"):
            await question.respond(payload="8")
        assert "7" in (await task.finished).result
        with pytest.raises(HubError, match="already_terminal"):
            await task.cancel()
        await session.end()
        await until(lambda: session.ended == "ended")


async def test_a_wrong_token_is_final() -> None:
    async with real_hub() as hub_process, connect(hub_process.url, token="x.y.z") as hub:
        assert (await hub.wait_closed()).code == 4001
