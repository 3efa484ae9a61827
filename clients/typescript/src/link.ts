// What carries messages: a WebSocket, or HTTP and Server-Sent Events. One link is one connection; it opens once and closes once.
import type { ClientMessage, ServerMessage } from "./protocol.js";

export interface Link {
  readonly transport: "websocket" | "sse";
  /** Sends a command; `text` is the same as JSON. */
  send(command: ClientMessage, text: string): void;
  /** Says goodbye. Nothing is told any more. */
  close(): void;
  /** Drops a connection whose other end does not answer. Nothing is told any more. */
  abandon(): void;
}

export interface LinkListener {
  message(message: ServerMessage): void;
  /** A sign of life that is no message. */
  life(): void;
  /** A frame that is no message. */
  nonsense(): void;
  /** At most once, and the last thing said. */
  closed(how: { code: number; reason: string; retryAfterMs?: number }): void;
}
