"""The driver of the conformance kit: orders on stdin, reports on stdout, as clients/conformance/DRIVER.md says."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import agent_hub_client as client
from agent_hub_client.protocol import ClientMessage

Order = dict[str, Any]


def report(**what: Any) -> None:
    sys.stdout.write(json.dumps(what, ensure_ascii=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def told(error: Exception) -> dict[str, Any]:
    """An error as the kit wants it."""
    if isinstance(error, client.HubError):
        said = {"code": error.code, "message": error.message, "retryable": error.retryable}
        more = {"retryAfterMs": error.retry_after_ms, "details": error.details}
        return said | {name: value for name, value in more.items() if value is not None}
    code = "closed" if isinstance(error, client.HubClosed) else "client"
    return {"code": code, "message": str(error) or repr(error), "retryable": False}


class Driver:
    """One client and the answers it owes."""

    def __init__(self) -> None:
        self.hub: client.Hub
        self.token = ""
        self.sessions: dict[str, client.Session] = {}

    async def run(self, orders: asyncio.Queue[Order | None]) -> None:
        first = await orders.get()
        if first is None:
            return
        self.token = first["token"]
        backoff = client.jittered(*(ms / 1000 for ms in first.get("backoffMs", (500, 30_000))))
        timeout = first.get("connectTimeoutMs", 10_000) / 1000
        self.hub = client.connect(first["url"], get_token=lambda: self.token, backoff=backoff, connect_timeout=timeout)
        self.hub.on_change(self.on_change)
        self.hub.on_problem(lambda error: report(problem=told(error)))
        report(answer=first["n"], ok=True)
        async with asyncio.TaskGroup() as answers, self.hub:
            report(state=self.hub.state)
            while (order := await orders.get()) is not None:
                self.take(order, answers)
                # A command is given to the client in the first step of its task.
                await asyncio.sleep(0)
                if order["do"] == "close":
                    return

    def take(self, order: Order, answers: asyncio.TaskGroup) -> None:
        do = order["do"]
        if do in ("token", "close"):
            self.token = order.get("token", self.token)
            report(answer=order["n"], ok=True)
        elif (carry_out := getattr(self, f"do_{do}", None)) is None:
            report(answer=order["n"], ok=False, error={"code": "unknown_order", "message": do, "retryable": False})
        else:
            answers.create_task(self.answer(order, carry_out))

    async def answer(self, order: Order, carry_out: Any) -> None:
        try:
            report(answer=order["n"], ok=True, **(await carry_out(order) or {}))
        except (client.AgentHubError, ValueError) as error:
            report(answer=order["n"], ok=False, error=told(error))

    def on_change(self) -> None:
        code = self.hub.closed.code if self.hub.closed else self.hub.lost.code if self.hub.lost else None
        more: dict[str, Any] = {} if code is None else {"closeCode": code}
        if self.hub.state == "stale" and self.hub.lost:
            more["retryInMs"] = round(self.hub.lost.retry_in * 1000)
        report(state=self.hub.state, **more)

    def follow(self, session: client.Session) -> client.Session:
        self.sessions[session.id] = session
        session.on_event(applied)
        session.on_detached(lambda error: self.on_detached(session, error))
        return session

    def on_detached(self, session: client.Session, error: Exception) -> None:
        if isinstance(error, client.HubError):
            report(detached={"sessionId": session.id, "error": told(error)})

    async def do_create(self, order: Order) -> None:
        await self.follow(self.hub.create(session_id=order["session"], agent=order.get("agent"))).ready

    async def do_attach(self, order: Order) -> None:
        followed = self.sessions.pop(order["session"], None)
        if followed is not None and followed.state != "closed":
            await followed.detach()
        await self.follow(self.hub.open(order["session"], after=order.get("after"))).ready

    async def do_detach(self, order: Order) -> None:
        session = self.sessions.pop(order["session"], None)
        if session is not None:
            await session.detach()

    async def send(self, kind: str, order: Order, **fields: str) -> None:
        """A command that no object of the client stands for."""
        given = {wire: order[name] for wire, name in fields.items() if name in order}
        await self.hub.send(cast(ClientMessage, {"type": kind, "sessionId": order["session"]} | given))

    async def do_end(self, order: Order) -> None:
        await self.send("end_session", order)

    async def do_submit(self, order: Order) -> dict[str, Any]:
        session = self.sessions.get(order["session"])
        if session is None:
            order.setdefault("task", str(uuid.uuid4()))
            await self.send("submit_task", order, taskId="task", prompt="prompt", onBusy="onBusy")
            return {"task": order["task"]}
        task = session.submit(order["prompt"], task_id=order.get("task"), on_busy=order.get("onBusy"))
        await task.accepted
        return {"task": task.id}

    async def do_cancel(self, order: Order) -> None:
        session = self.sessions.get(order["session"])
        if session is None:
            await self.send("cancel_task", order, taskId="task", reason="reason")
        else:
            await session.task(order["task"]).cancel(order.get("reason"))

    async def do_steer(self, order: Order) -> dict[str, Any]:
        session = self.sessions.get(order["session"])
        if session is None:
            order.setdefault("steer", str(uuid.uuid4()))
            await self.send("steer_task", order, taskId="task", input="input", when="when", steerId="steer")
            return {"steer": order["steer"]}
        task = session.task(order["task"])
        receipt = await task.steer(order["input"], when=order.get("when"), steer_id=order.get("steer"))
        return {"steer": receipt.steer_id}

    async def do_respond(self, order: Order) -> None:
        await self.send("respond_input", order, taskId="task", requestId="request", outcome="outcome", payload="payload")


def applied(what: client.Event | client.Attached) -> None:
    if isinstance(what, client.Attached):
        attached = {"sessionId": what.session_id, "epoch": what.epoch, "kept": what.kept, "head": what.head, "from": what.first}
        report(attached=attached if what.snapshot is None else attached | {"snapshot": what.snapshot})
    else:
        report(event=what)


async def main() -> None:
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[Order | None] = asyncio.Queue()
    reader = asyncio.StreamReader(limit=16 * 1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def read() -> None:
        while line := await reader.readline():
            orders.put_nowait(json.loads(line))
        orders.put_nowait(None)

    reading = asyncio.create_task(read())
    try:
        await Driver().run(orders)
    finally:
        reading.cancel()
        await asyncio.wait([reading])


if __name__ == "__main__":
    asyncio.run(main())
