// Requests to the hub's HTTP API, and what it refuses them with.
import { HubError } from "./errors.js";
import { RETRYABLE, type ErrorCode } from "./protocol.js";

/** An answer that is no answer of the hub: the network, or something on the way. */
export class Unreachable extends Error {
  override readonly name = "Unreachable";
}

export interface HttpCaller {
  readonly http: string;
  readonly fetch: typeof fetch;
  readonly token: string;
  readonly signal?: AbortSignal;
}

/**
 * Asks, and gives an answer that is good.
 * @throws HubError with the hub's code where it refuses, Unreachable where it does not answer.
 */
export async function request(caller: HttpCaller, method: string, path: string, body?: unknown, accept = "application/json"): Promise<Response> {
  const headers: Record<string, string> = { Authorization: `Bearer ${caller.token}`, Accept: accept };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const asked: RequestInit = { method, headers, cache: "no-store", ...(caller.signal ? { signal: caller.signal } : {}) };
  if (body !== undefined) asked.body = JSON.stringify(body);
  const answer = await caller.fetch(caller.http + path, asked).catch((cause: unknown) => {
    throw new Unreachable("the hub does not answer", { cause });
  });
  if (answer.ok) return answer;
  throw await refusal(answer);
}

async function refusal(answer: Response): Promise<HubError | Unreachable> {
  const said: unknown = await answer.json().catch(() => undefined);
  const { code, message, details, retryAfter } = (said ?? {}) as { code?: ErrorCode; message?: string; details?: unknown; retryAfter?: number };
  if (typeof code !== "string") return new Unreachable(`something between here and the hub answers ${answer.status}`);
  return new HubError({
    code,
    message: message ?? code,
    retryable: RETRYABLE[code] ?? (answer.status >= 500 || answer.status === 429),
    details,
    ...(typeof retryAfter === "number" ? { retryAfterMs: retryAfter * 1000 } : {}),
  });
}
