// Everything a command, a session or a task can be refused with.
import type { ErrorCode, ErrorMessage } from "./protocol.js";

/** Codes of the client itself; all others are the protocol's. */
export type ClientErrorCode =
  /** The connection has ended for good: `hub.close()`, or a close code there is no coming back from. */
  | "closed"
  /** The session is not followed any more: `session.detach()`, or it was deleted. */
  | "detached"
  /** Too many commands wait for a connection. Nothing was sent; try again when the state is `live`. */
  | "outbox_full"
  /** Somebody iterates too slowly over a bounded buffer. */
  | "overflow"
  /** The hub has another history of this session; what was read is replaced by a snapshot. */
  | "reset"
  /** This environment has no WebSocket and none was given. */
  | "no_websocket";

export interface HubErrorParts {
  code: ErrorCode | ClientErrorCode;
  message: string;
  /** Whether the same request may succeed later without being changed. */
  retryable?: boolean;
  /** How long to wait before that, in ms. */
  retryAfterMs?: number;
  /** More, for programs: a list of `{field, message}` where fields are wrong, the `limit` of a quota. */
  details?: unknown;
  cause?: unknown;
}

export class HubError extends Error {
  override readonly name = "HubError";
  readonly code: ErrorCode | ClientErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs: number | undefined;
  readonly details: unknown;

  constructor({ code, message, retryable = false, retryAfterMs, details, cause }: HubErrorParts) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
    this.details = details;
  }

  /** An `error` of the hub. */
  static from(error: ErrorMessage): HubError {
    const { code, message, retryable, retryAfterMs, details } = error;
    return new HubError({ code, message, retryable, details, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) });
  }
}
