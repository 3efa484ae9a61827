// Where a reader stands in a session's log.
import type { Cursor, SessionAttachedMessage } from "./protocol.js";

const CURSOR = /^([a-z0-9]{1,32})\.(0|[1-9][0-9]*)$/;

export function parseCursor(text: string): { epoch: string; seq: number } | undefined {
  const [, epoch, digits] = CURSOR.exec(text) ?? [];
  const seq = Number(digits);
  return epoch !== undefined && Number.isSafeInteger(seq) ? { epoch, seq } : undefined;
}

/** The client rule: apply what comes next, ignore what was seen, attach again over a gap. */
export class Position {
  #epoch: string | undefined;
  #last: number;
  /** A gap was seen; events are passed over until the answer to the attach that fills it. */
  #gap = false;

  constructor(at?: { epoch: string; seq: number }) {
    this.#epoch = at?.epoch;
    this.#last = at?.seq ?? 0;
  }

  /** What to attach behind; `undefined` before the first answer. */
  get cursor(): Cursor | undefined {
    return this.#epoch === undefined ? undefined : `${this.#epoch}.${this.#last}`;
  }

  get last(): number {
    return this.#last;
  }

  /** Whether the answer to an attach is to come before anything counts. */
  get waits(): boolean {
    return this.#gap;
  }

  /**
   * Takes in the answer to an attach. Returns whether what was applied still holds; if not, it is to be forgotten.
   * A repeated `create_session` replays the log from its start: what was applied of it before stays applied.
   */
  attached({ epoch, recovered, from }: SessionAttachedMessage): boolean {
    this.#gap = false;
    const sameLog = recovered && (this.#epoch === undefined || this.#epoch === epoch);
    const kept = sameLog && from <= this.#last + 1;
    if (!kept) this.#last = from - 1;
    this.#epoch = epoch;
    return kept;
  }

  /** Goes back to the beginning of a log; what comes before the next answer is passed over. */
  rewind(epoch: string): void {
    this.#epoch = epoch;
    this.#last = 0;
    this.#gap = true;
  }

  /** What to do with an event. `gap` is said once. */
  take(seq: number): "apply" | "ignore" | "gap" {
    if (this.#gap || seq <= this.#last) return "ignore";
    if (seq === this.#last + 1) {
      this.#last = seq;
      return "apply";
    }
    this.#gap = true;
    return "gap";
  }
}
