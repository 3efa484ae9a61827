import { expect, test } from "vitest";
import { endsOf, historyOf, read, READINGS_KEPT, withReading, type Reading } from "../src/numbers";

const text = (deltas: number, cancels: number) => `agent_hub_model_deltas_total ${deltas}
agent_hub_sessions_awake 2
agent_hub_tasks_ended_total{state="completed"} 7
agent_hub_cancel_to_stop_seconds_bucket{le="0.01"} 0
agent_hub_cancel_to_stop_seconds_bucket{le="0.02"} ${cancels}
agent_hub_cancel_to_stop_seconds_bucket{le="+Inf"} ${cancels}
`;

test("a rate needs two readings, and none is told across a restart of the hub", () => {
  const readings = [read(text(100, 0), 10), read(text(150, 0), 12), read(text(20, 0), 14), read(text(30, 0), 16)];
  expect(historyOf(readings).tokensPerSecond).toEqual([null, 25, null, 5]);
});

test("quantiles are of what was counted while we looked, not of everything before", () => {
  const readings = [read(text(0, 50), 10), read(text(0, 50), 12), read(text(0, 52), 14)];
  const { cancelMedian } = historyOf(readings);
  expect(cancelMedian.slice(0, 2)).toEqual([null, null]);
  expect(cancelMedian[2]).toBeCloseTo(0.015);
});

test("a state no task was in is none, and all columns are as long as the time", () => {
  const history = historyOf([read(text(0, 0), 1), read(text(0, 0), 2)]);
  expect(history.running).toEqual([0, 0]);
  expect(new Set(Object.values(history).map((rows) => rows.length))).toEqual(new Set([2]));
  expect(endsOf([read(text(0, 0), 1)])).toEqual({ completed: 7 });
});

test("the oldest reading goes", () => {
  let readings: Reading[] = [];
  for (let at = 0; at < READINGS_KEPT + 5; at++) readings = withReading(readings, read("", at));
  expect([readings.length, readings[0]?.at]).toEqual([READINGS_KEPT, 5]);
});
