"""A chat in the terminal: lines in, answers as they are written. Ctrl-C stops an answer; on an empty line nothing is said; Ctrl-D leaves.

    python examples/chat.py http://127.0.0.1:3000 [session id]

Pull the network out while it answers: the answer goes on where it was. Start it again with the session's id: it goes on where you were.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request

from agent_hub_client import HubError, Session, connect


def get_token(url: str) -> str:
    """Yours, or one of a hub in development mode, which gives them away."""
    if token := os.environ.get("AGENT_HUB_TOKEN"):
        return token
    with urllib.request.urlopen(urllib.request.Request(f"{url}/auth/token", method="POST")) as answer:
        return str(json.load(answer)["token"])


async def answer(session: Session, prompt: str) -> None:
    task = session.submit(prompt)
    loop = asyncio.get_running_loop()
    cancelling: list[asyncio.Task[None]] = []
    loop.add_signal_handler(signal.SIGINT, lambda: cancelling.append(loop.create_task(task.cancel("enough"))))
    try:
        async for event in task:
            if event["type"] == "token":
                print(event["data"]["token"], end="", flush=True)
        print(f"\n[{(await task.finished).status}]")
    except HubError as error:
        print(f"[{error}]")
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        # Refused means that it had ended: nothing to do.
        await asyncio.gather(*cancelling, return_exceptions=True)


async def main(url: str, session_id: str | None = None) -> None:
    async with connect(url, get_token=lambda: asyncio.to_thread(get_token, url)) as hub:
        hub.on_change(lambda: print(f"[{hub.state}]", file=sys.stderr))
        hub.on_problem(lambda error: print(f"[{error}]", file=sys.stderr))
        session = hub.open(session_id) if session_id else hub.create()
        await session.ready
        print(f"session {session.id}")
        for message in session.snapshot["messages"] if session.snapshot else ():
            print(f"{message['role']}: {message['text']}")
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip():
                await answer(session, line.strip())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
