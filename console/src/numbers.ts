// What the hub counted, as a few minutes of history: one reading every two seconds while somebody looks.
import { bucketsBetween, bucketsOf, parseSamples, quantile, valueOf, type Bucket, type Sample } from "./prometheus";

export const READ_EVERY_MS = 2000;
/** Five minutes. The oldest reading goes when a new one comes. */
export const READINGS_KEPT = 150;
/** Quantiles are of what was counted in the last minute; a single interval is too short to say anything. */
const QUANTILE_READINGS = 30;

export interface Reading {
  /** Seconds since 1970. */
  at: number;
  samples: Sample[];
}

export type Row = number | null;

/** Columns for a plot, all as long as `at`. `null`: not known at that moment. */
export interface History {
  at: number[];
  sessions: Row[];
  queued: Row[];
  running: Row[];
  suspended: Row[];
  tokensPerSecond: Row[];
  eventsPerSecond: Row[];
  lagMedian: Row[];
  lagHigh: Row[];
  cancelMedian: Row[];
  cancelHigh: Row[];
  appendMedian: Row[];
  appendHigh: Row[];
  memory: Row[];
}

export function read(text: string, at: number): Reading {
  return { at, samples: parseSamples(text) };
}

export function withReading(readings: Reading[], reading: Reading): Reading[] {
  return [...readings, reading].slice(-READINGS_KEPT);
}

export function historyOf(readings: Reading[]): History {
  const gauge = (name: string, labels?: Record<string, string>) => readings.map(({ samples }) => valueOf(samples, name, labels) ?? null);
  // A kind of task that never was has no line in the text; it is none, not unknown.
  const tasks = (state: string) => gauge("agent_hub_tasks", { state }).map((value) => value ?? 0);
  const spread = (name: string, q: number) => quantiles(readings, name, q);
  return {
    at: readings.map(({ at }) => at),
    sessions: gauge("agent_hub_sessions_awake").map((value) => value ?? 0),
    queued: tasks("queued"),
    running: tasks("running"),
    suspended: tasks("suspended"),
    tokensPerSecond: rate(readings, "agent_hub_model_deltas_total"),
    eventsPerSecond: rate(readings, "agent_hub_events_total"),
    lagMedian: spread("agent_hub_reader_lag_events", 0.5),
    lagHigh: spread("agent_hub_reader_lag_events", 0.99),
    cancelMedian: spread("agent_hub_cancel_to_stop_seconds", 0.5),
    cancelHigh: spread("agent_hub_cancel_to_stop_seconds", 0.99),
    appendMedian: spread("agent_hub_append_seconds", 0.5),
    appendHigh: spread("agent_hub_append_seconds", 0.99),
    memory: gauge("process_resident_memory_bytes"),
  };
}

/** Per second since the reading before; nothing for the first one, and nothing across a restart of the hub. */
function rate(readings: Reading[], name: string): Row[] {
  return readings.map((reading, index) => {
    const before = readings[index - 1];
    if (!before) return null;
    const more = (valueOf(reading.samples, name) ?? 0) - (valueOf(before.samples, name) ?? 0);
    const seconds = reading.at - before.at;
    return more < 0 || seconds <= 0 ? null : more / seconds;
  });
}

function quantiles(readings: Reading[], name: string, q: number): Row[] {
  const buckets: Bucket[][] = readings.map(({ samples }) => bucketsOf(samples, name));
  return buckets.map((now, index) => {
    // Not before two readings: the first one has everything since the hub was started.
    if (index === 0) return null;
    return quantile(bucketsBetween(buckets[Math.max(0, index - QUANTILE_READINGS)]!, now), q) ?? null;
  });
}

/** The newest value that is known. */
export function latest(rows: Row[]): number | undefined {
  return rows.at(-1) ?? undefined;
}

/** How often something was counted in all, since the hub was started. */
export function countOf(readings: Reading[], name: string): number {
  const last = readings.at(-1);
  return (last && valueOf(last.samples, name + "_count")) ?? 0;
}

/** How many tasks ended, by how. */
export function endsOf(readings: Reading[]): Record<string, number> {
  const ends: Record<string, number> = {};
  for (const { name, labels, value } of readings.at(-1)?.samples ?? []) {
    if (name === "agent_hub_tasks_ended_total" && labels["state"]) ends[labels["state"]] = value;
  }
  return ends;
}
