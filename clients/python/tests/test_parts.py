"""The parts that need no connection."""

from __future__ import annotations

import asyncio

import pytest

from agent_hub_client import FellBehind, connect, jittered
from agent_hub_client._backoff import Pace
from agent_hub_client._position import Position, Verdict
from agent_hub_client._socket import Target
from agent_hub_client._waiting import Feed, Once

APPLY, IGNORE, GAP = Verdict.APPLY, Verdict.IGNORE, Verdict.GAP


def test_events_are_applied_once_and_in_order() -> None:
    position = Position()
    assert position.attached("a", True, 1)
    assert [position.take(seq) for seq in (1, 2, 2, 1, 3)] == [APPLY, APPLY, IGNORE, IGNORE, APPLY]
    assert position.cursor == "a.3"


def test_a_gap_is_reported_once_and_closed_by_an_attach() -> None:
    position = Position()
    position.attached("a", True, 1)
    assert [position.take(seq) for seq in (1, 3, 2, 4)] == [APPLY, GAP, IGNORE, IGNORE]
    assert position.attached("a", True, 2)
    assert [position.take(seq) for seq in (2, 3)] == [APPLY, APPLY]


def test_a_replay_of_what_was_applied_changes_nothing() -> None:
    position = Position.at("a.7")
    assert position.attached("a", True, 1)
    assert [position.take(seq) for seq in (1, 7, 8)] == [IGNORE, IGNORE, APPLY]


@pytest.mark.parametrize(("epoch", "recovered", "first"), [("b", True, 1), ("a", False, 9), ("a", True, 9), ("b", False, 1)])
def test_another_history_takes_the_place_of_the_known_one(epoch: str, recovered: bool, first: int) -> None:
    position = Position.at("a.7")
    assert not position.attached(epoch, recovered, first)
    assert position.cursor == f"{epoch}.{first - 1}"
    assert position.take(first) is APPLY


@pytest.mark.parametrize("text", ["", "a", "a.", ".1", "A.1", "a.01", "a.-1", "a.1 ", "a.99999999999999999999"])
def test_a_text_that_is_no_cursor_begins_nowhere(text: str) -> None:
    assert Position.at(text).cursor is None


def test_the_bound_of_pauses_doubles_up_to_the_largest() -> None:
    wait = jittered(0.5, 3.0)
    for attempt, bound in enumerate([0.5, 1.0, 2.0, 3.0, 3.0]):
        pauses = [wait(attempt) for _ in range(300)]
        assert min(pauses) >= 0
        assert max(pauses) <= bound
        assert min(pauses) < bound / 2 < max(pauses), "it uses the whole range"
    assert jittered()(10_000) <= 30


def test_commands_are_paced_as_a_hub_takes_them() -> None:
    pace = Pace(100.0)
    assert [pace.take(100.0) for _ in range(48)] == [0.0] * 48
    wait = pace.take(100.0)
    assert 0 < wait <= 1 / 18
    assert pace.take(100.0 + wait + 1e-9) == 0
    assert pace.take(100.0 + wait) > 0
    assert [pace.take(1000.0) for _ in range(49)].count(0.0) == 48


@pytest.mark.parametrize("bounds", [(0, 1), (2, 1), (-1, 1)])
def test_pauses_without_a_range_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 < first"):
        jittered(*bounds)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://127.0.0.1:3000", "ws://127.0.0.1:3000/ws/agents"),
        ("https://hub.example/", "wss://hub.example/ws/agents"),
        ("ws://[::1]:9", "ws://[::1]:9/ws/agents"),
        ("wss://hub.example/inner/ws/agents", "wss://hub.example/inner/ws/agents"),
        ("https://hub.example/inner", "wss://hub.example/inner/ws/agents"),
    ],
)
def test_a_target_is_read_from_a_url(url: str, target: str) -> None:
    assert Target.read(url).url == target


@pytest.mark.parametrize("url", ["", "hub.example", "ftp://a", "ws://", "ws://user@a", "http://a?b", "http://a#b", "http://a:b"])
def test_what_is_no_url_of_a_hub_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        connect(url, token="t")


def test_exactly_one_kind_of_credentials() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        connect("ws://a")
    with pytest.raises(ValueError, match="exactly one"):
        connect("ws://a", token="t", ticket=lambda: "t")


async def test_one_who_stops_waiting_does_not_disturb_the_others() -> None:
    once: Once[int] = Once()

    async def look() -> int:
        return await once

    first, second = asyncio.create_task(look()), asyncio.create_task(look())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    once.set(7)
    once.set(8)
    assert first.cancelled()
    assert await second == 7
    assert await once == 7


async def test_a_feed_that_is_full_gives_what_it_has_and_says_so() -> None:
    feed: Feed[int] = Feed(2)
    for item in (1, 2, 3, 4):
        feed.push(item)
    assert [await anext(feed), await anext(feed)] == [1, 2]
    for _ in range(2):
        with pytest.raises(FellBehind):
            await anext(feed)


async def test_a_cancelled_wait_takes_nothing_from_a_feed() -> None:
    feed: Feed[int] = Feed(2)

    async def look() -> int:
        return await anext(feed)

    looking = asyncio.create_task(look())
    await asyncio.sleep(0)
    feed.push(1)
    looking.cancel()
    await asyncio.wait([looking])
    assert await anext(feed) == 1
    feed.end()
    assert [item async for item in feed] == []
