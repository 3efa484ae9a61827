// One plot with its heading, its newest value in large, and the same in words for who cannot see the lines.
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Row } from "../numbers";
import { useTheme } from "../theme";

export interface Line {
  label: string;
  rows: Row[];
  /** A custom property of the style sheet. */
  colour: string;
  fill?: boolean;
}

interface Props {
  title: string;
  what: string;
  at: number[];
  lines: Line[];
  format(value: number): string;
  /** Counted in whole things: no half a task on the axis. */
  whole?: boolean;
  /** Said instead of the lines when there is nothing to draw. */
  nothing: string;
}

const HEIGHT = 140;
/** A minute at least, so that the first readings do not race across the plot. */
const SHORTEST_S = 60;
const WHOLE = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6].map((power) => n * 10 ** power)).sort((a, b) => a - b);

export function Plot({ title, what, at, lines, format, whole = false, nothing }: Props) {
  // A line needs two ends.
  const empty = at.length < 2 || lines.every(({ rows }) => rows.every((value) => value === null));
  const now = lines.map(({ label, rows }) => ({ label, value: rows.at(-1) ?? null }));
  const summary = empty
    ? nothing
    : now.map(({ label, value }) => `${label} ${value === null ? "unknown" : format(value)}`).join(", ");
  return (
    <figure class="plot">
      <figcaption>
        <h2>{title}</h2>
        <p class="dim">{what}</p>
      </figcaption>
      <dl class="plot-now">
        {now.map(({ label, value }, index) => (
          <div key={label}>
            <dt>
              <i style={{ background: `var(${lines[index]!.colour})` }} />
              {label}
            </dt>
            <dd>{value === null ? "–" : format(value)}</dd>
          </div>
        ))}
      </dl>
      <div role="img" aria-label={`${title}: ${summary}`} class="plot-place">
        {empty ? <p class="dim plot-nothing">{nothing}</p> : <Canvas at={at} lines={lines} format={format} whole={whole} />}
      </div>
    </figure>
  );
}

function Canvas({ at, lines, format, whole }: Pick<Props, "at" | "lines" | "format"> & { whole: boolean }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const theme = useTheme();
  const data = [at, ...lines.map(({ rows }) => rows)] as uPlot.AlignedData;

  useLayoutEffect(() => {
    const it = place.current!;
    plot.current = new uPlot(optionsOf(it, lines, format, whole), data, it);
    const observer = new ResizeObserver(() => it.clientWidth && plot.current?.setSize({ width: it.clientWidth, height: HEIGHT }));
    observer.observe(it);
    return () => {
      observer.disconnect();
      plot.current?.destroy();
    };
    // Made anew only when its colours change; the data come below.
  }, [theme]);
  useEffect(() => plot.current?.setData(data), [at]);
  return <div ref={place} />;
}

function optionsOf(place: HTMLElement, lines: Line[], format: (value: number) => string, whole: boolean): uPlot.Options {
  const style = getComputedStyle(place);
  // `light-dark()` stays unresolved in a custom property, so the colour is asked for through a real one.
  const colour = (name: string) => {
    place.style.color = `var(${name})`;
    const found = style.color;
    place.style.color = "";
    return found;
  };
  const [ink, grid] = [colour("--dim"), colour("--line")];
  const axis = { stroke: ink, font: "11px system-ui, sans-serif", grid: { stroke: grid, width: 1 }, ticks: { show: false } };
  return {
    width: place.clientWidth || 320,
    height: HEIGHT,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { range: (_, first, last) => [Math.min(first, last - SHORTEST_S), last] }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, 1e-9) * 1.1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 26, space: 76, values: (_, ticks) => ticks.map(clock) },
      { ...axis, size: 58, space: 34, ...(whole && { incrs: WHOLE }), values: (_, ticks) => ticks.map(format) },
    ],
    series: [
      {},
      ...lines.map(({ label, colour: name, fill }) => ({
        label,
        stroke: colour(name),
        width: 1.75,
        ...(fill && { fill: translucent(colour(name)) }),
      })),
    ],
  };
}

const clock = (seconds: number): string => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false, hour: "2-digit", minute: "2-digit", second: "2-digit" });

/** `rgb(1, 2, 3)` with little of it. */
const translucent = (colour: string): string => colour.replace(/^rgb\((.*)\)$/, "rgba($1, .12)");
