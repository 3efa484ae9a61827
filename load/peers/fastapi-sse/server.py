"""FastAPI with `POST /chat` and an EventSourceResponse: a request per prompt, an event per token.

Cancelling is hanging up: the response's generator is cancelled, and with it the call of the model.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
import jwt
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel, Field
from sse_starlette.sse import EventSourceResponse


def need(name: str) -> str:
    if value := os.environ.get(name):
        return value
    print(f"{name} is not set; see load/peers/README.md", file=sys.stderr)
    sys.exit(2)


HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(need("PORT"))
SECRET = need("JWT_SECRET")
VENDOR = need("OPENAI_BASE_URL") + "/chat/completions"
MODEL = os.environ.get("MODEL_ID", "peer")
HEADERS = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', 'none')}"}

Message = dict[str, str]
conversations: dict[tuple[str, str], list[Message]] = {}


class VendorError(Exception):
    """The vendor refused, or broke off."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # No bound on connections and no deadline: answers take as long as they take.
    connector = aiohttp.TCPConnector(limit=0)
    app.state.vendor = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None), read_bufsize=2**20)
    async with app.state.vendor:
        yield


app = FastAPI(lifespan=lifespan)


async def user(authorization: Annotated[str, Header()] = "") -> str:
    try:
        claims = jwt.decode(authorization.removeprefix("Bearer "), SECRET, algorithms=["HS256"], options={"require": ["exp"]})
        return str(claims.get("id") or claims["sub"])
    except (jwt.InvalidTokenError, KeyError):
        raise HTTPException(401, "Invalid or expired token") from None


class Chat(BaseModel):
    message: Annotated[str, Field(min_length=1)]
    session_id: Annotated[str | None, Field(max_length=128)] = None


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/chat")
async def chat(body: Chat, who: Annotated[str, Depends(user)]) -> EventSourceResponse:
    messages = conversations.setdefault((who, body.session_id), []) if body.session_id else []
    messages.append({"role": "user", "content": body.message})
    return EventSourceResponse(answer(messages))


async def answer(messages: list[Message]) -> AsyncIterator[dict[str, str]]:
    yield event("start", {"task_id": str(uuid.uuid4())})
    text: list[str] = []
    try:
        async for token in ask(messages):
            text.append(token)
            yield event("token", {"token": token})
    except (aiohttp.ClientError, VendorError, ValueError) as error:
        yield event("error", {"error": str(error)})
        return
    result = "".join(text)
    messages.append({"role": "assistant", "content": result})
    yield event("done", {"result": result})


def event(kind: str, data: dict[str, Any]) -> dict[str, str]:
    return {"event": kind, "data": json.dumps(data, separators=(",", ":"), ensure_ascii=False)}


async def ask(messages: list[Message]) -> AsyncIterator[str]:
    """The pieces of the vendor's answer."""
    request = {"model": MODEL, "stream": True, "messages": messages}
    async with app.state.vendor.post(VENDOR, json=request, headers=HEADERS) as response:
        if response.status != 200:
            raise VendorError(f"the vendor answered with status {response.status}")
        rest = b""
        # Piece by piece as the network brings them, which is cheaper than line by line.
        async for piece in response.content.iter_any():
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
                if data == b"[DONE]":
                    return
                if data and (token := text_of(json.loads(data))):
                    yield token
    raise VendorError("the vendor broke off")


def text_of(chunk: dict[str, Any]) -> str | None:
    if error := chunk.get("error"):
        raise VendorError(error["message"])
    return chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None


class Server(uvicorn.Server):
    async def startup(self, *args: Any, **options: Any) -> None:
        await super().startup(*args, **options)
        print(f"listening on http://{HOST}:{PORT}", flush=True)


if __name__ == "__main__":
    # uvloop and httptools, as `uvicorn[standard]` brings them.
    Server(
        uvicorn.Config(app, host=HOST, port=PORT, backlog=4096, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    ).run()
