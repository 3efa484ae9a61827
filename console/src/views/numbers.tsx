// Live numbers of the whole hub, read from /metrics while this page is looked at.
import { useEffect, useState } from "preact/hooks";
import { complaint, metrics } from "../api";
import { HubRefusal } from "../identity";
import { countOf, endsOf, historyOf, read, READ_EVERY_MS, withReading, type Reading } from "../numbers";
import { Plot } from "../parts/plot";
import { amount, bytes, duration, plural } from "../words";

// Kept while the page is open, so that a look at a session and back does not empty the plots.
let readings: Reading[] = [];

type Trouble = { refused: boolean; why: string };

export function Numbers() {
  const [, draw] = useState(0);
  const [trouble, setTrouble] = useState<Trouble>();

  useEffect(() => {
    const stop = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      try {
        const text = await metrics(stop.signal);
        readings = withReading(readings, read(text, Date.now() / 1000));
        setTrouble(undefined);
        draw((n) => n + 1);
      } catch (error) {
        if (stop.signal.aborted) return;
        setTrouble({ refused: error instanceof HubRefusal && [401, 403, 404].includes(error.status), why: complaint(error) });
      }
      if (!stop.signal.aborted) timer = setTimeout(look, READ_EVERY_MS);
    };
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, []);

  return (
    <div class="page numbers">
      <header class="page-head">
        <h1>Numbers</h1>
        <p class="dim">The whole hub, all users. Read every {READ_EVERY_MS / 1000} s while this page is open; the last five minutes are kept here.</p>
      </header>
      {trouble && <Refused {...trouble} />}
      {readings.length > 0 && <Plots />}
      {!readings.length && !trouble && <p class="dim">Reading…</p>}
    </div>
  );
}

function Refused({ refused, why }: Trouble) {
  return (
    <div class="notice" role="status">
      {refused ? (
        <>
          <strong>The hub does not show its numbers to you.</strong>
          <p>
            It shows them to the machine it runs on, and to tokens with the scope <code>metrics</code>. It said: “{why}”. Ask whoever runs the hub for such a token, or open the
            console on that machine.
          </p>
        </>
      ) : (
        <>
          <strong>The numbers cannot be read at the moment.</strong>
          <p>{why} Trying again every {READ_EVERY_MS / 1000} s; what is drawn is from before.</p>
        </>
      )}
    </div>
  );
}

function Plots() {
  const it = historyOf(readings);
  const ends = endsOf(readings);
  const seconds = (value: number) => duration(value * 1000);
  const memory = it.memory.at(-1);
  return (
    <>
      <div class="plots">
        <Plot
          title="Sessions"
          what="In memory: with a reader, or lately used. The others sleep in the store."
          at={it.at}
          lines={[{ label: "awake", rows: it.sessions, colour: "--plot-1", fill: true }]}
          format={amount}
          whole
          nothing="No session yet."
        />
        <Plot
          title="Tasks by state"
          what="Of all sessions, now."
          at={it.at}
          lines={[
            { label: "running", rows: it.running, colour: "--plot-1", fill: true },
            { label: "queued", rows: it.queued, colour: "--plot-2" },
            { label: "suspended", rows: it.suspended, colour: "--plot-3" },
          ]}
          format={amount}
          whole
          nothing="No task yet."
        />
        <Plot
          title="Tokens per second"
          what="Pieces of text from models, and events written for them and for everything else."
          at={it.at}
          lines={[
            { label: "tokens/s", rows: it.tokensPerSecond, colour: "--plot-1", fill: true },
            { label: "events/s", rows: it.eventsPerSecond, colour: "--plot-2" },
          ]}
          format={amount}
          nothing="Two readings are needed for a rate."
        />
        <Plot
          title="Cancel to stop"
          what="From the request until the work has really stopped. Of the last minute."
          at={it.at}
          lines={[
            { label: "median", rows: it.cancelMedian, colour: "--plot-1" },
            { label: "99 %", rows: it.cancelHigh, colour: "--plot-2" },
          ]}
          format={seconds}
          nothing="Nothing was cancelled in the last minute."
        />
        <Plot
          title="Reader lag"
          what="Events behind, of readers that were so far back that they had to read from the store. Of the last minute."
          at={it.at}
          lines={[
            { label: "median", rows: it.lagMedian, colour: "--plot-1" },
            { label: "99 %", rows: it.lagHigh, colour: "--plot-2" },
          ]}
          format={amount}
          whole
          nothing="No reader fell behind in the last minute."
        />
        <Plot
          title="Time to durable"
          what="From deciding events until the store has them, where somebody waits for that. Of the last minute."
          at={it.at}
          lines={[
            { label: "median", rows: it.appendMedian, colour: "--plot-1" },
            { label: "99 %", rows: it.appendHigh, colour: "--plot-2" },
          ]}
          format={seconds}
          nothing="Nothing was written in the last minute."
        />
      </div>
      <p class="dim sums">
        Since the hub was started:{" "}
        {["completed", "failed", "cancelled", "timeout"].map((how) => `${plural(ends[how] ?? 0, "task")} ${how === "timeout" ? "timed out" : how}`).join(", ")};{" "}
        {plural(countOf(readings, "agent_hub_cancel_to_stop_seconds"), "cancel")} measured.
        {typeof memory === "number" && ` Memory of the process: ${bytes(memory)}.`} Everything is at{" "}
        <a href="/metrics" target="_blank" rel="noreferrer">
          /metrics
        </a>{" "}
        for Prometheus.
      </p>
    </>
  );
}
