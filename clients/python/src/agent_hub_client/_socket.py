"""One WebSocket: where to, as whom, and whether the other side lives."""

from __future__ import annotations

import asyncio
import inspect
import ssl as tls
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from ._errors import TokenFailed

PATH = "/ws/agents"
SUBPROTOCOL = Subprotocol("agent-hub.v1")

# Larger than anything a hub says: a whole answer of 1 MiB, with every character escaped, and room for a snapshot.
_MAX_FRAME = 16 * 1024 * 1024
# A goodbye is polite; nobody waits long for its answer.
_CLOSE_TIMEOUT = 1.0

TokenSource = Callable[[], "str | Awaitable[str]"]


class Socket(ClientConnection):
    """Knows when it last heard of the other side: any byte counts, also of a WebSocket ping."""

    heard: float = 0.0

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)


class _Straight(connect):
    """Follows no redirect: a hub sends none, and another place is not to be given our token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who connects. Asked before every connection, so that what has expired is replaced."""

    source: TokenSource
    is_ticket: bool

    @classmethod
    def one_of(cls, token: str | None, get_token: TokenSource | None, ticket: TokenSource | None) -> Credentials:
        if sum(given is not None for given in (token, get_token, ticket)) != 1:
            raise ValueError("expected exactly one of token, get_token and ticket")
        if ticket is not None:
            return cls(ticket, is_ticket=True)
        return cls(get_token if get_token is not None else lambda: token or "", is_ticket=False)

    async def get(self) -> str:
        try:
            given = self.source()
            text = await given if inspect.isawaitable(given) else given
        except Exception as error:
            raise TokenFailed(error) from error
        if not isinstance(text, str) or not text.isascii() or not text.isprintable():
            raise TokenFailed(ValueError("it gave no text that can be a token"))
        return text


@dataclass(frozen=True, slots=True)
class Target:
    """Where a hub listens."""

    url: str

    @classmethod
    def read(cls, url: str) -> Target:
        parts = urlsplit(url)
        scheme = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}.get(parts.scheme)
        if scheme is None or not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(f"expected http(s)://host[:port][/path] or ws(s)://…, got {url!r}")
        _ = parts.port  # Raises ValueError unless it is one.
        path = parts.path.rstrip("/")
        return cls(urlunsplit((scheme, parts.netloc, path if path.endswith(PATH) else path + PATH, "", "")))

    async def open(self, credentials: Credentials, ssl: tls.SSLContext | None) -> Socket:
        """Connects as far as the upgrade. Has no deadline of its own."""
        text = await credentials.get()
        url, headers = self.url, {}
        if credentials.is_ticket:
            url += f"?ticket={quote(text, safe='')}"
        else:
            headers["Authorization"] = f"Bearer {text}"
        more: dict[str, Any] = {"ssl": ssl} if ssl is not None and url.startswith("wss:") else {}
        socket = await _Straight(
            url,
            subprotocols=[SUBPROTOCOL],
            additional_headers=headers,
            compression=None,
            open_timeout=None,
            # The hub's heartbeat decides when it is dead; see `Hub._watch`.
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=_MAX_FRAME,
            create_connection=Socket,
            **more,
        )
        assert isinstance(socket, Socket)
        socket.heard = asyncio.get_running_loop().time()
        return socket
