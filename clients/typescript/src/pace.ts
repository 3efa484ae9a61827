// How long to wait: before connecting again, and before the next command.

/** Before attempt 0, 1, 2 …: at random below a bound that doubles, so that clients that were cut together do not come back together. */
export function jittered(firstMs = 250, mostMs = 15_000, random: () => number = Math.random): (attempt: number) => number {
  return (attempt) => random() * Math.min(mostMs, firstMs * 2 ** Math.min(attempt, 30));
}

/** The hub takes 60 messages at once and 20 a second from one socket, and closes those that do not care. A little is left for pings. */
const AT_ONCE = 48;
const A_SECOND = 18;

/** A bucket that fills again as time passes. */
export class Pace {
  #left = AT_ONCE;
  #filledAt: number;

  constructor(now: number) {
    this.#filledAt = now;
  }

  /** Takes one out; returns 0, or how many ms to wait until there is one. */
  take(now: number): number {
    // A clock may be set back.
    const passed = Math.max(0, now - this.#filledAt);
    this.#left = Math.min(AT_ONCE, this.#left + (passed / 1000) * A_SECOND);
    this.#filledAt = now;
    if (this.#left >= 1) {
      this.#left -= 1;
      return 0;
    }
    return Math.ceil(((1 - this.#left) / A_SECOND) * 1000);
  }
}
