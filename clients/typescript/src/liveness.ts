// Whether the other end still lives. Browsers do not show the hub's pings, so silence for two heartbeats is asked about, and no answer
// for one more is an answer.

/** A question after waking up is answered sooner than that, or the connection did not survive. */
const PROBE_MS = 5_000;
/** Where the hub does not say how often its heart beats. */
const USUAL_MS = 20_000;

export class Liveness {
  readonly #heartbeatMs: number;
  readonly #ping: () => void;
  readonly #dead: () => void;
  readonly #timer: ReturnType<typeof setInterval>;
  #heardAt = Date.now();
  /** When the open question has to be answered. */
  #dueAt: number | undefined;
  #probe: ReturnType<typeof setTimeout> | undefined;

  /** Until `stop` is called. `dead` may be told more than once. */
  constructor(heartbeatMs: number, ping: () => void, dead: () => void) {
    this.#heartbeatMs = heartbeatMs > 0 ? Math.max(heartbeatMs, 50) : USUAL_MS;
    this.#ping = ping;
    this.#dead = dead;
    this.#timer = setInterval(() => this.#look(), this.#heartbeatMs / 4);
  }

  heard(): void {
    this.#heardAt = Date.now();
    this.#dueAt = undefined;
    clearTimeout(this.#probe);
    this.#probe = undefined;
  }

  /** Asks now. */
  probe(): void {
    if (this.#probe !== undefined) return;
    const patience = Math.min(PROBE_MS, this.#heartbeatMs);
    this.#ask(patience);
    this.#probe = setTimeout(() => this.#dead(), patience);
  }

  stop(): void {
    clearInterval(this.#timer);
    clearTimeout(this.#probe);
  }

  #look(): void {
    const now = Date.now();
    // A clock that was set back would make the silence endless.
    this.#heardAt = Math.min(this.#heardAt, now);
    if (this.#dueAt === undefined) {
      if (now - this.#heardAt >= 2 * this.#heartbeatMs) this.#ask(this.#heartbeatMs);
    } else if (now >= this.#dueAt) this.#dead();
    else this.#dueAt = Math.min(this.#dueAt, now + this.#heartbeatMs);
  }

  #ask(patience: number): void {
    this.#dueAt = Date.now() + patience;
    this.#ping();
  }
}
