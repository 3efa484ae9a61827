import { describe, expect, test } from "vitest";
import { bucketsBetween, bucketsOf, parseSamples, quantile, valueOf } from "../src/prometheus";

const TEXT = `# HELP x y
# TYPE agent_hub_tasks gauge
agent_hub_tasks{state="running"} 3
agent_hub_tasks{state="queued"} 0
odd{path="a\\"b\\\\c,d}e"} 1.5
agent_hub_cancel_to_stop_seconds_bucket{le="0.01"} 2
agent_hub_cancel_to_stop_seconds_bucket{le="+Inf"} 10
agent_hub_cancel_to_stop_seconds_bucket{le="0.1"} 9
agent_hub_cancel_to_stop_seconds_sum 0.4
not a line
broken NaN
`;

describe("the text form", () => {
  test("names, labels, values; what cannot be read is passed over", () => {
    const samples = parseSamples(TEXT);
    expect(valueOf(samples, "agent_hub_tasks", { state: "running" })).toBe(3);
    expect(valueOf(samples, "agent_hub_tasks", { state: "none" })).toBeUndefined();
    expect(samples.find(({ name }) => name === "odd")).toEqual({ name: "odd", labels: { path: 'a"b\\c,d}e' }, value: 1.5 });
    expect(samples.some(({ name }) => name === "broken" || name === "not")).toBe(false);
  });

  test("buckets come lowest first, and what came in between is their difference", () => {
    const buckets = bucketsOf(parseSamples(TEXT), "agent_hub_cancel_to_stop_seconds");
    expect(buckets).toEqual([{ le: 0.01, count: 2 }, { le: 0.1, count: 9 }, { le: Infinity, count: 10 }]);
    expect(bucketsBetween(buckets, [{ le: 0.01, count: 3 }, { le: 0.1, count: 12 }, { le: Infinity, count: 14 }]).map(({ count }) => count)).toEqual([1, 3, 4]);
    expect(bucketsBetween(buckets, [{ le: 0.01, count: 1 }, { le: 0.1, count: 1 }, { le: Infinity, count: 1 }]).map(({ count }) => count)).toEqual([1, 1, 1]);
  });
});

describe("a quantile", () => {
  const buckets = [{ le: 1, count: 0 }, { le: 2, count: 10 }, { le: 4, count: 20 }, { le: Infinity, count: 21 }];
  test("lies inside its bucket", () => {
    expect(quantile(buckets, 5 / 21)).toBeCloseTo(1.5);
    expect(quantile(buckets, 15 / 21)).toBeCloseTo(3);
  });
  test("above the last bound nothing more is known than that bound", () => expect(quantile(buckets, 1)).toBe(4));
  test("of nothing is nothing", () => {
    expect(quantile([], 0.5)).toBeUndefined();
    expect(quantile([{ le: 1, count: 0 }, { le: Infinity, count: 0 }], 0.5)).toBeUndefined();
  });
});
