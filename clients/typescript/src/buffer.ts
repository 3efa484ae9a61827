// Events that wait for somebody who iterates.
import { HubError } from "./errors.js";

interface Reader {
  /** How many were taken, since the beginning of the buffer. */
  at: number;
  wake: (() => void) | undefined;
}

/** A bounded buffer with readers at positions of their own. Full: the oldest are dropped, and who needed them is told. */
export class EventBuffer<T> {
  readonly #max: number;
  readonly #what: string;
  readonly #readers = new Set<Reader>();
  #items: T[] = [];
  /** Items that were dropped from the front. */
  #dropped = 0;
  #end: { error?: HubError } | undefined;

  constructor(max: number, what: string) {
    this.#max = max;
    this.#what = what;
  }

  /** Whether somebody iterates. */
  get isRead(): boolean {
    return this.#readers.size > 0;
  }

  push(item: T): void {
    if (this.#end) return;
    this.#items.push(item);
    // A quarter at once, so that a full buffer is not moved for every event.
    if (this.#items.length > this.#max) this.#drop(Math.max(1, this.#max >> 2));
    this.#wake();
  }

  /** Nothing follows. */
  end(error?: HubError): void {
    this.#end ??= error ? { error } : {};
    this.#wake();
  }

  /** From the first item kept, or only what comes from now on; `release` forgets what every reader has taken. */
  iterate(from: "first" | "now", release = false): AsyncIterableIterator<T> {
    const reader: Reader = { at: from === "now" ? this.#dropped + this.#items.length : 0, wake: undefined };
    this.#readers.add(reader);
    const finish = (): IteratorResult<T> => {
      this.#readers.delete(reader);
      reader.wake?.();
      return { done: true, value: undefined };
    };
    const next = async (): Promise<IteratorResult<T>> => {
      while (this.#readers.has(reader)) {
        if (reader.at < this.#dropped) {
          finish();
          const message = `${this.#what}: more than ${this.#max} events were waiting to be read, and the oldest are gone; read faster, raise maxBuffered, or use onEvent`;
          throw new HubError({ code: "overflow", message });
        }
        const index = reader.at - this.#dropped;
        if (index < this.#items.length) {
          reader.at += 1;
          const value = this.#items[index] as T;
          if (release) this.#release();
          return { done: false, value };
        }
        if (this.#end) {
          finish();
          if (this.#end.error) throw this.#end.error;
          break;
        }
        await new Promise<void>((resolve) => (reader.wake = resolve));
      }
      return { done: true, value: undefined };
    };
    // Calls of `next` that are not waited for are answered in order.
    let line: Promise<unknown> = Promise.resolve();
    const iterator: AsyncIterableIterator<T> = {
      next: () => {
        const result = line.then(next, next);
        line = result;
        return result;
      },
      return: async () => finish(),
      [Symbol.asyncIterator]: () => iterator,
    };
    return iterator;
  }

  #release(): void {
    const taken = Math.min(...[...this.#readers].map(({ at }) => at)) - this.#dropped;
    // Not for every item: what is moved is paid for by what was read.
    if (taken > 0 && taken >= this.#items.length / 2) this.#drop(taken);
  }

  #drop(count: number): void {
    this.#items = this.#items.slice(count);
    this.#dropped += count;
  }

  #wake(): void {
    for (const reader of this.#readers) {
      reader.wake?.();
      reader.wake = undefined;
    }
  }
}
