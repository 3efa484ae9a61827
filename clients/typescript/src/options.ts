// The options of `connect`, checked once and passed whole.
import type { ConnectOptions, WebSocketConstructor } from "./api.js";
import { HubError } from "./errors.js";
import { jittered } from "./pace.js";
import type { Credentials } from "./websocket.js";

export interface Settings {
  /** Without a slash at the end. */
  readonly http: string;
  readonly socket: string;
  /** Asked for before each connection. */
  readonly credentials: () => Promise<Credentials>;
  /** A token for HTTP; `undefined` where there are only tickets. */
  readonly token: (() => Promise<string>) | undefined;
  /** A token to go on with when the one in force expires; `undefined` where there is only one, or the same came again. */
  readonly newToken: (() => Promise<string | undefined>) | undefined;
  readonly transport: "auto" | "websocket" | "sse";
  readonly WebSocket: WebSocketConstructor | undefined;
  readonly fetch: typeof fetch;
  readonly backoff: (attempt: number) => number;
  readonly connectTimeoutMs: number;
  readonly maxPending: number;
  readonly maxBuffered: number;
}

/** @throws TypeError for options that cannot work, naming them. */
export function settingsOf(options: ConnectOptions): Settings {
  const { token, getToken, ticket, transport = "auto" } = options;
  if ([token, getToken, ticket].filter((way) => way !== undefined).length !== 1) {
    throw new TypeError("connect needs exactly one of token, getToken and ticket");
  }
  if (!["auto", "websocket", "sse"].includes(transport)) throw new TypeError("transport must be auto, websocket or sse");
  if (ticket && transport === "sse") throw new TypeError("Server-Sent Events need token or getToken: a ticket opens WebSockets only");
  const bearer = ticket ? undefined : async () => text(getToken ? await getToken() : token, getToken ? "getToken" : "token");
  /** What the connection stands on. A request over HTTP may have been given a newer one. */
  let inForce: string | undefined;
  const replacement = async () => {
    const next = await bearer?.();
    return next === inForce ? undefined : (inForce = next);
  };
  const WebSocket = options.WebSocket ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
  if (!WebSocket && transport !== "sse") throw noWebSocket();
  return {
    ...addresses(options.url),
    credentials: bearer ? async () => ({ token: (inForce = await bearer()) }) : async () => ({ ticket: text(await ticket?.(), "ticket") }),
    token: bearer,
    newToken: getToken && bearer && replacement,
    transport,
    WebSocket,
    // A browser's fetch wants to be called on its window.
    fetch: options.fetch ?? ((...request) => globalThis.fetch(...request)),
    backoff: options.backoff ?? jittered(),
    connectTimeoutMs: count("connectTimeoutMs", options.connectTimeoutMs, 10_000),
    maxPending: count("maxPending", options.maxPending, 128),
    maxBuffered: count("maxBuffered", options.maxBuffered, 8192),
  };
}

function noWebSocket(): HubError {
  const message = "there is no WebSocket here (Node 20 has none): connect({ WebSocket }) with the one of the package ws, or transport: \"sse\"";
  return new HubError({ code: "no_websocket", message });
}

function addresses(given: string): { http: string; socket: string } {
  const { location } = globalThis as { location?: { origin: string } };
  const address = given === "" ? location?.origin : given;
  if (address === undefined) throw new TypeError("url is needed where there is no page");
  let url: URL;
  try {
    url = new URL(address, location?.origin);
  } catch (cause) {
    throw new TypeError(`url is no address: ${given}`, { cause });
  }
  const secure = { "http:": false, "ws:": false, "https:": true, "wss:": true }[url.protocol];
  if (secure === undefined) throw new TypeError(`url must begin with http, https, ws or wss: ${given}`);
  if (url.username || url.password) throw new TypeError("url must not have a user or password in it");
  const rest = `${url.host}${url.pathname.replace(/\/+$/, "").replace(/\/ws\/agents$/, "")}`;
  return { http: `http${secure ? "s" : ""}://${rest}`, socket: `ws${secure ? "s" : ""}://${rest}/ws/agents` };
}

function text(value: unknown, name: string): string {
  if (typeof value !== "string" || value === "") throw new TypeError(`${name} gave no text`);
  return value;
}

function count(name: string, value: number | undefined, usual: number): number {
  if (value === undefined) return usual;
  if (!Number.isSafeInteger(value) || value < 1) throw new TypeError(`${name} must be a whole number from 1`);
  return value;
}
