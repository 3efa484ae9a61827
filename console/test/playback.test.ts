import { describe, expect, test } from "vitest";
import { advance, Folds, LONGEST_PAUSE_MS, pauseBefore } from "../src/playback";

const log = (ats: number[]) => ats.map((ms, index) => ({ seq: index + 1, at: new Date(Date.UTC(2026, 0, 1) + ms).toISOString() }));

describe("folding to a position", () => {
  const events = Array.from({ length: 1000 }, (_, index) => index + 1);
  test("gives the same from every direction, and folds no more than the way from a kept state", () => {
    let folded = 0;
    const folds = new Folds<number, { sum: number }>(events, { sum: 0 }, ({ sum }, event) => (folded++, { sum: sum + event }));
    const sum = (n: number) => (n * (n + 1)) / 2;
    for (const position of [1000, 0, 1, 199, 200, 201, 999, 500, 400, 3]) expect(folds.at(position).sum).toBe(sum(position));
    folded = 0;
    folds.at(999);
    expect(folded).toBeLessThan(200);
    expect(folds.at(5000)).toEqual({ sum: sum(1000) });
    expect(folds.at(-1)).toEqual({ sum: 0 });
  });
});

describe("playing", () => {
  const events = log([0, 100, 100, 400, 90_000, 90_050]);
  test("the pauses are those of the log, and long ones are shortened", () => {
    expect([0, 1, 2, 3, 4, 5, 6].map((position) => pauseBefore(events, position, 1))).toEqual([0, 100, 0, 300, LONGEST_PAUSE_MS, 50, 0]);
    expect(pauseBefore(events, 3, 2)).toBe(150);
    expect(pauseBefore(log([100, 0]), 1, 1)).toBe(0);
  });
  test("time that has passed moves on, and what is left over counts for the next pause", () => {
    expect(advance(events, 0, 0, 1)).toEqual({ position: 1, left: 0 });
    expect(advance(events, 1, 99, 1)).toEqual({ position: 1, left: 99 });
    expect(advance(events, 1, 120, 1)).toEqual({ position: 3, left: 20 });
    expect(advance(events, 1, 1e9, 1)).toEqual({ position: 6, left: 0 });
  });
});
