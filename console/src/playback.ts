// A log, and a position in it: what the session was at any of its moments, and how long to wait until the next one.

/** States are kept at every so many events, so that a jump folds at most that many. The folds share their parts, so it costs little. */
const KEEP_EVERY = 200;
/** Nobody waits at a gap of an hour: longer pauses than this are shortened to it, at speed 1. */
export const LONGEST_PAUSE_MS = 1500;
export const SPEEDS = [0.5, 1, 2, 5, 20] as const;

export interface Timed {
  seq: number;
  at: string;
}

/** Folds a log up to any position: `at(0)` is before the first event, `at(events.length)` behind the last. */
export class Folds<Event, State extends object> {
  #kept: State[];

  constructor(
    readonly events: readonly Event[],
    empty: State,
    readonly reduce: (state: State, event: Event) => State,
  ) {
    this.#kept = [empty];
  }

  at(position: number): State {
    const end = Math.max(0, Math.min(position, this.events.length));
    let from = Math.min(Math.floor(end / KEEP_EVERY), this.#kept.length - 1);
    let state = this.#kept[from]!;
    for (let index = from * KEEP_EVERY; index < end; index++) {
      state = this.reduce(state, this.events[index]!);
      if ((index + 1) % KEEP_EVERY === 0 && ++from === this.#kept.length) this.#kept.push(state);
    }
    return state;
  }
}

/** From the event before `position` to the one at it, in milliseconds of a clock at `speed`. */
export function pauseBefore(events: readonly Timed[], position: number, speed: number): number {
  const [before, next] = [events[position - 1], events[position]];
  if (!before || !next) return 0;
  const gap = Date.parse(next.at) - Date.parse(before.at);
  return Number.isFinite(gap) && gap > 0 ? Math.min(gap, LONGEST_PAUSE_MS) / speed : 0;
}

/** Where playing has got to after `elapsed` more milliseconds, and what of them is left over for the next pause. */
export function advance(events: readonly Timed[], position: number, elapsed: number, speed: number): { position: number; left: number } {
  let left = elapsed;
  let now = position;
  while (now < events.length) {
    const pause = pauseBefore(events, now, speed);
    if (pause > left) return { position: now, left };
    left -= pause;
    now += 1;
  }
  return { position: now, left: 0 };
}
