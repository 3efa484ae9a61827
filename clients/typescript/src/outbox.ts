// Commands the hub has not answered, in the order they were given, which is the order they are sent again in.
import { HubError } from "./errors.js";
import type { AckMessage, Command } from "./protocol.js";

export interface Waiting {
  readonly n: number;
  readonly command: Command;
  /** The client's own doing (attach, refresh): made anew on each connection, and tried again when the hub has no room. */
  readonly own: boolean;
  /** How often it was handed to a connection. */
  sends: number;
  resolve(ack: AckMessage | undefined): void;
  reject(error: HubError): void;
  /** Whether what a repeated command is refused with is what its first one did. */
  forgive?(error: HubError): Promise<boolean>;
}

export class Outbox {
  readonly #waiting = new Map<number, Waiting>();
  readonly #max: number;
  #last = 0;
  #given = 0;

  constructor(max: number) {
    this.#max = max;
  }

  /** Takes a command in, or refuses it because too many wait. */
  add(what: Omit<Waiting, "n" | "sends">): Waiting | undefined {
    if (!what.own && this.#given >= this.#max) {
      const message = `${this.#max} commands wait for an answer of the hub already; this one was not sent`;
      what.reject(new HubError({ code: "outbox_full", message, retryable: true }));
      return undefined;
    }
    this.#last += 1;
    const waiting = { ...what, n: this.#last, sends: 0 };
    this.#waiting.set(waiting.n, waiting);
    if (!what.own) this.#given += 1;
    return waiting;
  }

  get(id: unknown): Waiting | undefined {
    return typeof id === "number" ? this.#waiting.get(id) : undefined;
  }

  /** Whoever is answered waits no more. */
  remove(waiting: Waiting): void {
    if (this.#waiting.delete(waiting.n) && !waiting.own) this.#given -= 1;
  }

  /** For a new connection: the client's own commands are forgotten, the others are given in order. */
  again(): Waiting[] {
    for (const waiting of [...this.#waiting.values()]) if (waiting.own) this.remove(waiting);
    return [...this.#waiting.values()];
  }

  some(test: (command: Command) => boolean): boolean {
    for (const { command } of this.#waiting.values()) if (test(command)) return true;
    return false;
  }

  /** Whether an earlier command, not answered yet, makes the session or task that this one is about. */
  makes({ n, command }: Waiting): boolean {
    const { sessionId, taskId } = command as { sessionId?: string; taskId?: string };
    for (const { n: earlier, command: maker } of this.#waiting.values()) {
      if (earlier >= n) continue;
      if (maker.type === "create_session" && maker.sessionId != null && maker.sessionId === sessionId) return true;
      if (maker.type === "submit_task" && maker.taskId != null && maker.taskId === taskId) return true;
    }
    return false;
  }

  /** Nothing will be answered any more. */
  fail(error: HubError): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#given = 0;
    for (const waiting of all) waiting.reject(error);
  }
}
