// Opens links: asks for credentials, chooses between WebSocket and Server-Sent Events, and gives up on what does not become a connection.
import type { Problem } from "./api.js";
import type { Link, LinkListener } from "./link.js";
import type { Settings } from "./options.js";
import { openSse } from "./sse.js";
import { openWebSocket } from "./websocket.js";

/** Sockets that may fail to open in a row, while the hub answers HTTP each time, before the other way is taken. */
const FAILURES = 2;

export interface OpeningListener extends LinkListener {
  /** Before anything is said on it. */
  opened(link: Link): void;
}

/** Whoever was asked for a token or ticket gave none. */
class NoCredentials extends Error {}

const textOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause));

export class Opener {
  readonly #settings: Settings;
  readonly #problem: (problem: Problem) => void;
  /** Sockets in a row that closed without a word while the hub answered HTTP. */
  #failures = 0;
  #sse = false;
  /** Of attempts that were overtaken, nothing is heard. */
  #attempt = 0;
  #link: Link | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(settings: Settings, problem: (problem: Problem) => void) {
    this.#settings = settings;
    this.#problem = problem;
    this.#sse = settings.transport === "sse";
  }

  /** One attempt. Ends with `closed`, now or when the connection it became ends. */
  open(listener: OpeningListener): void {
    this.stop();
    const attempt = ++this.#attempt;
    let heard = false;
    const closed = (how: { code: number; reason: string; retryAfterMs?: number }) => {
      if (attempt !== this.#attempt) return;
      this.stop();
      const stopped = this.#attempt;
      this.#chooseNext(heard, how.code).then(() => stopped === this.#attempt && listener.closed(how));
    };
    const guarded: LinkListener = {
      message: (message) => {
        if (attempt !== this.#attempt) return;
        if (!heard) {
          heard = true;
          this.#failures = 0;
        }
        if (message.type === "welcome") clearTimeout(this.#timer);
        listener.message(message);
      },
      life: () => attempt === this.#attempt && listener.life(),
      nonsense: () => attempt === this.#attempt && listener.nonsense(),
      closed,
    };
    this.#timer = setTimeout(() => {
      this.#link?.abandon();
      closed({ code: 1006, reason: "the hub did not say welcome in time" });
    }, this.#settings.connectTimeoutMs);
    this.#dial(guarded).then(
      (link) => {
        if (attempt !== this.#attempt) return link?.abandon();
        this.#link = link;
        listener.opened(link);
      },
      (cause: unknown) => {
        if (attempt !== this.#attempt) return;
        // Without credentials nothing is learned about sockets.
        heard = cause instanceof NoCredentials;
        const code = heard ? "credentials" : "connection";
        this.#problem({ code, message: `no connection could be opened: ${textOf(cause)}`, cause });
        closed({ code: 1006, reason: textOf(cause) });
      },
    );
  }

  /** Nothing is heard any more. */
  stop(): void {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    this.#link = undefined;
  }

  async #dial(listener: LinkListener): Promise<Link> {
    const { credentials, WebSocket, socket } = this.#settings;
    const given = await credentials().catch((cause: unknown) => {
      throw new NoCredentials(textOf(cause), { cause });
    });
    if (this.#sse && "token" in given) return openSse(this.#settings, given.token, listener);
    if (!WebSocket) throw new TypeError("there is no WebSocket");
    return openWebSocket(WebSocket, socket, given, listener);
  }

  /** What the next attempt is made with. */
  async #chooseNext(heard: boolean, code: number): Promise<void> {
    if (this.#settings.transport !== "auto") return;
    // After an event stream a socket is tried again: what blocked it may be gone. Once is enough.
    if (this.#sse) {
      this.#sse = false;
      this.#failures = FAILURES - 1;
      return;
    }
    // With a code of its own the hub has spoken; tickets open sockets only.
    const silent = !heard && ![1001, 1012].includes(code) && code < 4000;
    if (!silent || !this.#settings.token) return;
    const signal = AbortSignal.timeout(this.#settings.connectTimeoutMs);
    const health = this.#settings.fetch(`${this.#settings.http}/health`, { signal });
    // A hub that is away, or was just started, says nothing about sockets.
    this.#failures = (await health.then((answer) => answer.ok, () => false)) ? this.#failures + 1 : 0;
    if (this.#failures < FAILURES) return;
    this.#sse = true;
    this.#problem({ code: "fallback", message: "no WebSocket gets through to the hub; Server-Sent Events are used instead" });
  }
}
