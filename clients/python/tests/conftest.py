from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fake_hub import FakeHub, fake_hub


@pytest.fixture
async def server() -> AsyncIterator[FakeHub]:
    async with fake_hub() as hub:
        yield hub


@pytest.fixture(autouse=True)
async def nothing_is_left_behind() -> AsyncIterator[None]:
    """Whatever a test did with the client, no task of it outlives the `async with` block."""
    yield
    left = [task for task in asyncio.all_tasks() if is_of_the_client(task)]
    assert left == []


def is_of_the_client(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and "/agent_hub_client/" in code.co_filename
