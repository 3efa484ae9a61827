"""Ways to wait that survive the cancellation of one who waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

from ._errors import FellBehind

T = TypeVar("T")


class Once(Generic[T]):
    """A value that comes once. Any number of tasks may await it; cancelling one of them does not touch the others."""

    def __init__(self) -> None:
        self._future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def done(self) -> bool:
        return self._future.done()

    def set(self, value: T) -> None:
        """The first one holds."""
        if not self._future.done():
            self._future.set_result(value)

    def fail(self, error: Exception) -> None:
        if not self._future.done():
            self._future.set_exception(error)
            # Nobody has to look at it.
            self._future.exception()

    def __await__(self) -> Generator[object, None, T]:
        return asyncio.shield(self._future).__await__()


class Signal:
    """Wakes all who wait now."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def set(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class Feed(Generic[T]):
    """An async iterator with a bound. Full: it gives what it has, then raises `FellBehind`."""

    def __init__(self, bound: int) -> None:
        self._items: deque[T] = deque()
        self._bound = bound
        self._end: Exception | None = None
        self._signal = Signal()

    def push(self, item: T) -> None:
        if self._end is not None:
            return
        if len(self._items) >= self._bound:
            self.end(FellBehind(f"more than {self._bound} events waited to be taken"))
            return
        self._items.append(item)
        self._signal.set()

    def end(self, error: Exception | None = None) -> None:
        """After what it has: the error, or the end of the iteration."""
        if self._end is None:
            self._end = error or StopAsyncIteration()
            self._signal.set()

    def __aiter__(self) -> Feed[T]:
        return self

    async def __anext__(self) -> T:
        # An item is taken only after the waiting, so a cancelled wait loses none.
        while not self._items:
            if self._end is not None:
                raise self._end
            await self._signal.wait()
        return self._items.popleft()
