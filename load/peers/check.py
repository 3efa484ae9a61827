"""Whether the installed peers say what README.md says, to the byte, and what a cancel does to the call of the model.

    load/peers/install.sh && clients/python/.venv/bin/python load/peers/check.py [express-ws] [fastapi-sse] [socketio]

Needs the `fake-vendor` program (FAKE_VENDOR, or target/debug/fake-vendor) and, for its WebSocket library, the virtual environment of the Python client.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

HERE = Path(__file__).resolve().parent
VENDOR = Path(os.environ.get("FAKE_VENDOR") or HERE.parents[1] / "target" / "debug" / "fake-vendor")
SECRET = "0123456789abcdef0123456789abcdef"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
PATIENCE = 30.0


def token() -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"id": "ada", "exp": int(time.time()) + 3600}
    signed = f"{part(json.dumps({'alg': 'HS256'}).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(SECRET.encode(), signed.encode(), hashlib.sha256))}"


def shape(text: str) -> re.Pattern[str]:
    """A shape of README.md: `<uuid>` and `<id>` vary, the rest is as it stands."""
    return re.compile(re.escape(text).replace("<uuid>", UUID).replace("<id>", "[A-Za-z0-9_-]+"))


async def hear(ws: ClientConnection, *texts: str) -> list[str]:
    """The next frames, which have to be these."""
    heard: list[str] = []
    for text in texts:
        async with asyncio.timeout(PATIENCE):
            frame = await ws.recv()
        assert isinstance(frame, str), frame
        assert shape(text).fullmatch(frame), f"\nexpected {text}\ngot      {frame}"
        heard.append(frame)
    return heard


async def ask(port: int, path: str, *, body: Any = None, auth: str = "") -> tuple[int, str]:
    """A request on a connection of its own; the status and the body, chunks put together."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = "" if body is None else json.dumps(body)
    lines = [
        f"{'GET' if path == '/health' else 'POST'} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Authorization: Bearer {auth}",
    ]
    lines += ["Content-Type: application/json", f"Content-Length: {len(text)}"]
    writer.write(("\r\n".join(lines) + "\r\n\r\n" + text).encode())
    async with asyncio.timeout(PATIENCE):
        answer = (await reader.read()).decode()
    writer.close()
    head, _, rest = answer.partition("\r\n\r\n")
    if "transfer-encoding: chunked" in head.lower():
        whole, rest = rest, ""
        while (size := int(whole.partition("\r\n")[0] or "0", 16)) > 0:
            rest += whole.partition("\r\n")[2][:size]
            whole = whole.partition("\r\n")[2][size + 2 :]
    return int(head.split()[1]), rest


async def express_ws(port: int) -> None:
    url = f"ws://127.0.0.1:{port}/ws/agents?token="
    async with connect(url + "x") as ws:
        try:
            raise AssertionError(await ws.recv())
        except ConnectionClosed as error:
            assert error.rcvd is not None
            assert (error.rcvd.code, error.rcvd.reason) == (4001, "Authentication failed")
    async with connect(url + token()) as ws:
        await ws.send('{"type":"submit_task","prompt":"x"}')
        await hear(ws, '{"type":"error","message":"Session not found"}')
        await ws.send("x")
        await hear(ws, '{"type":"error","message":"Invalid JSON"}')
        await ws.send('{"type":"create_session"}')
        await hear(ws, '{"type":"session_created","sessionId":"<uuid>"}')
        await ws.send('{"type":"submit_task","prompt":""}')
        await hear(ws, '{"type":"error","message":"Prompt required"}')
        await ws.send('{"type":"submit_task","prompt":"/pace 1 /echo a b"}')
        said = [f'{{"type":"token","taskId":"<uuid>","data":{{"token":"{text}"}}}}' for text in ("a ", "b")]
        end = '{"type":"task_completed","taskId":"<uuid>","data":{"result":"a b"}}'
        await hear(ws, '{"type":"task_started","taskId":"<uuid>"}', *said, end)
        await ws.send('{"type":"submit_task","prompt":"/fail 500"}')
        await hear(ws, '{"type":"task_started","taskId":"<uuid>"}')
        assert '"type":"task_failed"' in await ws.recv(decode=True)
        # The cancel is acknowledged, and the answer goes on to its end.
        await ws.send('{"type":"submit_task","prompt":"/pace 10 /tokens 40"}')
        task = json.loads((await hear(ws, '{"type":"task_started","taskId":"<uuid>"}'))[0])["taskId"]
        await ws.send(json.dumps({"type": "cancel_task", "taskId": task}))
        kinds: list[str] = []
        while "task_completed" not in kinds:
            async with asyncio.timeout(PATIENCE):
                kinds.append(json.loads(await ws.recv())["type"])
        assert kinds.count("token") == 40
        assert "token" in kinds[kinds.index("task_cancelled") :]


async def fastapi_sse(port: int) -> None:
    assert await ask(port, "/chat", body={"message": "x"}) == (401, '{"detail":"Invalid or expired token"}')
    assert (await ask(port, "/chat", body={"message": ""}, auth=token()))[0] == 422

    def event(kind: str, data: str) -> str:
        return f"event: {kind}\r\ndata: {data}\r\n\r\n"

    status, body = await ask(port, "/chat", body={"message": "/pace 1 /echo a b", "session_id": "s"}, auth=token())
    said = event("token", '{"token":"a "}') + event("token", '{"token":"b"}') + event("done", '{"result":"a b"}')
    assert status == 200
    assert shape(event("start", '{"task_id":"<uuid>"}') + said).fullmatch(body), body
    status, body = await ask(port, "/chat", body={"message": "/fail 500", "session_id": "s"}, auth=token())
    assert status == 200
    assert 'event: error\r\ndata: {"error":"' in body
    # Hanging up stops the call of the model; see the vendor's counters at the end.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    text = json.dumps({"message": "/pace 20 /tokens 100000"})
    head = f"POST /chat HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    writer.write((head + text).encode())
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b"event: token")
    writer.transport.abort()


async def socketio(port: int) -> None:
    create = "/api/v1/sessions/create"
    assert await ask(port, create) == (401, '{"error":"Invalid or expired token"}')
    status, body = await ask(port, create, auth=token())
    assert status == 201
    assert shape('{"sessionId":"<id>"}').fullmatch(body), body
    session = json.loads(body)["sessionId"]
    url = f"ws://127.0.0.1:{port}/socket.io/?EIO=4&transport=websocket"
    opened = '0{"sid":"<id>","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}'
    async with connect(url) as ws:
        await hear(ws, opened)
        await ws.send('40{"token":"x"}')
        await hear(ws, '44{"message":"Invalid or expired token"}')

    def status_of(state: str) -> str:
        return (
            f'42["agent-event",{{"type":"agent-status","data":{{"isProcessing":{str(state == "executing").lower()},"state":"{state}"}}}}]'
        )

    def tokens(*texts: str) -> list[str]:
        about = '"isComplete":false,"messageId":"<uuid>"'
        return [f'42["agent-event",{{"type":"streaming_message","data":{{"content":"{text}",{about}}}}}]' for text in texts]

    async with connect(url) as ws:

        async def emit(*what: Any) -> None:
            await ws.send("42" + json.dumps(what))

        await hear(ws, opened)
        await ws.send("40" + json.dumps({"token": token()}))
        await hear(ws, '40{"sid":"<id>"}')
        await emit("join-session", "nobody's")
        await hear(ws, '42["error","Session not found"]')
        await emit("join-session", session)
        await hear(ws, '42["agent-status",{"isProcessing":false,"state":"idle"}]')
        await emit("send-query", {"sessionId": session, "query": "/pace 1 /echo a b"})
        asked = '42["agent-event",{"type":"query","data":{"text":"/pace 1 /echo a b"}}]'
        await hear(ws, asked, status_of("executing"), *tokens("a ", "b"))
        await hear(ws, '42["agent-event",{"type":"answer","data":{"text":"a b"}}]', status_of("idle"))
        await emit("send-query", {"sessionId": session, "query": "/pace 20 /tokens 100000"})
        for _ in range(4):
            await ws.recv()
        await emit("send-query", {"sessionId": session, "query": "x"})
        await emit("abort-query", {"sessionId": session})
        frames = [await ws.recv()]
        while '"aborted","data"' not in str(frames[-1]):
            async with asyncio.timeout(PATIENCE):
                frames.append(await ws.recv())
        assert '42["error","Session is busy"]' in frames
        behind = frames[frames.index('42["abort-result",{"success":true}]') + 1 :]
        assert behind == ['42["agent-event",{"type":"aborted","data":{}}]']
        await hear(ws, status_of("aborted"))
        await emit("abort-query", {"sessionId": session})
        await hear(ws, '42["abort-result",{"success":false}]')


CHECKS = {"express-ws": express_ws, "fastapi-sse": fastapi_sse, "socketio": socketio}


@asynccontextmanager
async def program(*command: str | Path, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A process, and its first line. Ends with it."""
    env = os.environ | environment
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            line = (await process.stdout.readline()).decode().strip()
        yield process, line
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def check(peer: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = HERE / peer / "start.sh"
    async with program(start, PORT="1", OPENAI_BASE_URL="", JWT_SECRET=SECRET) as (process, _):
        assert await process.wait() == 2, "a missing setting ends it with 2"
    # It counts calls, once a second.
    async with (
        program(VENDOR, "--report", "1") as (vendor, base),
        program(start, PORT=str(port), OPENAI_BASE_URL=base, JWT_SECRET=SECRET) as (_, line),
    ):
        assert line == f"listening on http://127.0.0.1:{port}", line
        assert await ask(port, "/health") == (200, '{"status":"ok"}')
        await CHECKS[peer](port)
        # While the peer still runs: Express's cancel lets the call of the model run to its end, the others' stops it.
        aborted = 0 if peer == "express-ws" else 1
        assert vendor.stderr is not None
        counted = ""
        try:
            async with asyncio.timeout(PATIENCE):
                while f"running: 0, finished: {2 - aborted}, aborted: {aborted}," not in counted:
                    counted = (await vendor.stderr.readline()).decode()
        except TimeoutError:
            raise AssertionError(f"the vendor counts {counted}") from None
    print(f"{peer}: as described")


async def main(peers: list[str]) -> None:
    for peer in peers:
        await check(peer)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or list(CHECKS)))
