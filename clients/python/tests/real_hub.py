"""A real hub as a process, and a proxy before it that cuts connections in several ways."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import tempfile
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fake_hub import PATIENCE, Message

REPOSITORY = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("AGENT_HUB_BIN") or REPOSITORY / "target" / "debug" / "agent-hub")


class RealHub:
    def __init__(self, port: int, directory: str, environment: dict[str, str]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.token = ""
        self._directory = directory
        given = {"PORT": str(port), "STORAGE_PATH": f"{directory}/hub.db", "AGENT_HUB_LIMITS": "off", **environment}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AGENT_HUB_") and name != "JWT_SECRET"}
        self._environment = kept | given
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        log = Path(self._directory, "hub.log")
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                BINARY, cwd=self._directory, env=self._environment, stdout=output, stderr=output
            )
        self.token = ""
        try:
            await self.take_a_token()
        except TimeoutError:
            raise AssertionError(f"the hub does not start:\n{log.read_text()}") from None

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            await self._process.wait()
            self._process = None

    async def get(self, path: str) -> Any:
        def read() -> Any:
            request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {self.token}"})
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)

        return await asyncio.to_thread(read)

    async def log(self, session: str) -> list[Message]:
        """Every event of a session, as REST tells it."""
        events: list[Message] = []
        after = ""
        while True:
            page = await self.get(f"/api/v1/agents/sessions/{session}/events?limit=500{after}")
            events += page["events"]
            if page["next"] == page["head"] or not page["events"]:
                return events
            after = f"&after={page['next']}"

    async def take_a_token(self) -> None:
        def post() -> Any:
            with urllib.request.urlopen(urllib.request.Request(self.url + "/auth/token", method="POST"), timeout=PATIENCE) as answer:
                return json.load(answer)

        async with asyncio.timeout(PATIENCE):
            while not self.token:
                with suppress(OSError):
                    self.token = (await asyncio.to_thread(post))["token"]
                await asyncio.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def real_hub(**environment: str) -> AsyncIterator[RealHub]:
    """In development mode, with the demo model."""
    assert BINARY.exists(), f"{BINARY} is missing: cargo build --bin agent-hub, or set AGENT_HUB_BIN"
    with tempfile.TemporaryDirectory() as directory:
        hub = RealHub(free_port(), directory, environment)
        try:
            await hub.start()
            yield hub
        finally:
            await hub.stop()


class CuttingProxy:
    """Passes bytes on until it is told to stop, in one of several ways."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = ""
        self.made = 0
        self._links: set[Link] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        link = Link(writer)
        self._links.add(link)
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
            link.writers.append(up_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(link.pass_on(reader, up_writer))
                group.create_task(link.pass_on(up_reader, writer))
        except OSError:
            pass
        finally:
            self._links.discard(link)
            link.reset()

    def cut(self, how: str) -> int:
        """Cuts what there is: `reset` at once, `mid-frame` after half of the next piece, `half-open` falls silent. Returns how many."""
        cut = [link for link in self._links if link.healthy]
        for link in cut:
            link.cut(how)
        return len(cut)


class Link:
    """One connection through the proxy."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writers = [writer]
        self.how: str | None = None

    @property
    def healthy(self) -> bool:
        return self.how is None and len(self.writers) == 2

    def cut(self, how: str) -> None:
        self.how = how
        if how == "reset":
            self.reset()

    def reset(self) -> None:
        for writer in self.writers:
            writer.transport.abort()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while piece := await reader.read(65_536):
                if self.how == "half-open":
                    continue
                if self.how == "mid-frame":
                    writer.write(piece[: len(piece) // 2])
                    with suppress(OSError):
                        await writer.drain()
                    break
                writer.write(piece)
                await writer.drain()
        self.reset()


@asynccontextmanager
async def cutting_proxy(port: int) -> AsyncIterator[CuttingProxy]:
    proxy = CuttingProxy(port)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for link in tuple(proxy._links):
            link.reset()
        await server.wait_closed()


# Noticing a half-open connection takes the longest.
WAYS = itertools.cycle(["reset", "mid-frame", "half-open", "reset", "mid-frame"])
