// The text form of Prometheus, as far as the hub writes it: counters, gauges and histograms of one process.

export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

/** Counts per bucket: `count` values were at most `le`, counted from the lowest bucket up. */
export interface Bucket {
  le: number;
  count: number;
}

/** What cannot be read is passed over: a number that is missing must not take the others with it. */
export function parseSamples(text: string): Sample[] {
  const samples: Sample[] = [];
  for (const line of text.split("\n")) {
    if (!line || line.startsWith("#")) continue;
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)/.exec(line);
    if (!match) continue;
    const value = numberOf(match[3]!);
    if (!Number.isNaN(value)) samples.push({ name: match[1]!, labels: labelsOf(match[2] ?? ""), value });
  }
  return samples;
}

function numberOf(text: string): number {
  if (text === "+Inf") return Infinity;
  return text === "-Inf" ? -Infinity : Number(text);
}

function labelsOf(text: string): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name!] = value!.replace(/\\(.)/g, (_, c: string) => (c === "n" ? "\n" : c));
  }
  return labels;
}

/** The value of one sample; `undefined` while nothing has been counted yet. */
export function valueOf(samples: Sample[], name: string, labels: Record<string, string> = {}): number | undefined {
  return samples.find((one) => one.name === name && Object.entries(labels).every(([key, value]) => one.labels[key] === value))?.value;
}

/** A histogram's buckets, lowest first. */
export function bucketsOf(samples: Sample[], name: string): Bucket[] {
  return samples
    .filter((one) => one.name === name + "_bucket")
    .map((one) => ({ le: numberOf(one.labels["le"] ?? ""), count: one.value }))
    .sort((a, b) => a.le - b.le);
}

/** What came in between: `later - earlier`. A process that was started again counts from nothing. */
export function bucketsBetween(earlier: Bucket[], later: Bucket[]): Bucket[] {
  const before = new Map(earlier.map(({ le, count }) => [le, count]));
  const restarted = later.some(({ le, count }) => count < (before.get(le) ?? 0));
  return later.map(({ le, count }) => ({ le, count: restarted ? count : count - (before.get(le) ?? 0) }));
}

/**
 * The value that a share `q` of what was counted does not exceed, interpolated inside its bucket; `undefined` when nothing was counted.
 * What lies above the last bound is told as that bound: no more is known of it.
 */
export function quantile(buckets: Bucket[], q: number): number | undefined {
  const total = buckets.at(-1)?.count ?? 0;
  if (total <= 0) return undefined;
  const wanted = q * total;
  let below: Bucket = { le: 0, count: 0 };
  for (const bucket of buckets) {
    if (bucket.count >= wanted && bucket.count > below.count) {
      if (bucket.le === Infinity) return below.le;
      return below.le + ((bucket.le - below.le) * (wanted - below.count)) / (bucket.count - below.count);
    }
    below = bucket;
  }
  return below.le;
}
