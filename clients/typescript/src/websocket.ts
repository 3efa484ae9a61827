// A link over a WebSocket.
import type { WebSocketConstructor, WebSocketLike } from "./api.js";
import type { Link, LinkListener } from "./link.js";
import { decode } from "./protocol.js";

const SUBPROTOCOL = "agent-hub.v1";
/** What may stand in a subprotocol; a token of other characters goes into the address. */
const TOKEN_CHARACTERS = /^[A-Za-z0-9._~+-]+$/;

/** How long a goodbye may take where that can be bounded; a program is not kept from ending by a hub that does not answer it. */
const GOODBYE_MS = 1_000;

/** How a socket is let in. A token is offered as a subprotocol, so that it stands in no address and no proxy's log. */
export type Credentials = { token: string } | { ticket: string };

/** Opens a socket. Throws what the constructor throws. */
export function openWebSocket(constructor: WebSocketConstructor, url: string, credentials: Credentials, listener: LinkListener): Link {
  const { address, protocols } = presented(url, credentials);
  return new WebSocketLink(new constructor(address, protocols), listener);
}

function presented(url: string, credentials: Credentials): { address: string; protocols: string[] } {
  if ("ticket" in credentials) return { address: `${url}?ticket=${encodeURIComponent(credentials.ticket)}`, protocols: [SUBPROTOCOL] };
  const { token } = credentials;
  if (TOKEN_CHARACTERS.test(token)) return { address: url, protocols: [SUBPROTOCOL, `bearer.${token}`] };
  return { address: `${url}?token=${encodeURIComponent(token)}`, protocols: [SUBPROTOCOL] };
}

class WebSocketLink implements Link {
  readonly transport = "websocket";
  readonly #socket: WebSocketLike & { terminate?: () => void };

  constructor(socket: WebSocketLike, listener: LinkListener) {
    this.#socket = socket;
    socket.onmessage = ({ data }: { data: unknown }) => {
      const message = decode(data);
      if (message) listener.message(message);
      else listener.nonsense();
    };
    socket.onclose = ({ code, reason }: { code?: number; reason?: string }) => {
      this.#forget();
      listener.closed({ code: code ?? 1006, reason: reason ?? "" });
    };
    // What is wrong is not told to scripts; the close comes behind it.
    socket.onerror = () => {};
  }

  send(_: unknown, text: string): void {
    // A socket that is closing takes nothing and says so by its close.
    this.#socket.send(text);
  }

  close(): void {
    this.#forget();
    this.#socket.close(1000, "bye");
    if (this.#socket.terminate) setTimeout(() => this.#socket.terminate?.(), GOODBYE_MS);
  }

  abandon(): void {
    this.#forget();
    // `ws` would wait half a minute for an answer to its close.
    if (this.#socket.terminate) this.#socket.terminate();
    else this.#socket.close();
  }

  #forget(): void {
    this.#socket.onmessage = null;
    this.#socket.onclose = null;
    // Without a listener `ws` would throw what comes late.
    this.#socket.onerror = () => {};
  }
}
