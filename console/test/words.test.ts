import { expect, test } from "vitest";
import { amount, bytes, duration, excerpt, plural } from "../src/words";

test("durations", () => {
  expect([0, 0.25, 4.26, 340.4, 1500, 12_400, 61_000, 3_720_000, -1, NaN].map(duration)).toEqual(["0 ms", "250 µs", "4.3 ms", "340 ms", "1.5 s", "12 s", "1 min 1 s", "1 h 2 min", "–", "–"]);
});

test("amounts", () => {
  expect([0, 0.5, 12.34, 123.4, 1234, 12_345, 2_500_000].map(amount)).toEqual(["0", "0.50", "12.3", "123", "1,234", "12.3 k", "2.5 M"]);
  expect(bytes(3 * 2 ** 20)).toBe("3 MiB");
  expect([plural(1, "task"), plural(2, "task"), plural(0, "reply", "replies")]).toEqual(["1 task", "2 tasks", "0 replies"]);
});

test("one line, and not endless", () => expect(excerpt("a\n  b " + "c".repeat(100), 10)).toBe("a b ccccc…"));
