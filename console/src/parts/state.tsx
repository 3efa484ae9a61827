// How the connection is, in words that say no more than is known.
import { useEffect, useState } from "preact/hooks";
import type { Hub, State } from "../client";

export interface Link {
  state: State;
  /** One or two words. */
  label: string;
  /** A sentence, when there is something to say. */
  explain?: string;
}

export function linkOf(hub: Hub | undefined, now: number): Link {
  if (!hub) return { state: "closed", label: "No token", explain: "Without a token there is no connection." };
  const { state, closed } = hub;
  const offline = typeof navigator !== "undefined" && navigator.onLine === false;
  switch (state) {
    case "connecting":
      return { state, label: "Connecting", explain: offline ? "This machine is offline." : `Nothing has come from the hub yet${again(closed, now)}.` };
    case "replaying":
      return { state, label: "Catching up", explain: "Connected. What was missed is on its way." };
    case "live":
      return { state, label: "Live" };
    case "stale":
      return {
        state,
        label: offline ? "Offline" : "Reconnecting",
        explain: `The connection is lost${why(closed)}, so what you see may be old${again(closed, now)}. Tasks go on in the hub meanwhile.`,
      };
    case "closed":
      return { state, label: "Closed", explain: closed ? `The hub closed the connection for good: ${closed.reason || "no reason given"} (${closed.code}).` : "The connection is closed." };
  }
}

function why(closed: Hub["closed"]): string {
  if (!closed || closed.code === 1006 || closed.code === 1005) return "";
  return ` (${closed.reason || "code"} ${closed.code})`;
}

function again(closed: Hub["closed"], now: number): string {
  const seconds = closed?.retryAt === undefined ? 0 : Math.ceil((closed.retryAt - now) / 1000);
  return seconds > 1 ? `; next try in ${seconds} s` : "";
}

/** Counts down while there is something to count. */
export function useLink(hub: Hub | undefined): Link {
  const [now, setNow] = useState(Date.now);
  const waiting = hub !== undefined && (hub.state === "stale" || hub.state === "connecting");
  useEffect(() => {
    if (!waiting) return;
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [waiting]);
  useEffect(() => {
    const look = () => setNow(Date.now());
    addEventListener("online", look);
    addEventListener("offline", look);
    return () => {
      removeEventListener("online", look);
      removeEventListener("offline", look);
    };
  }, []);
  return linkOf(hub, waiting ? now : Date.now());
}

export function StatePill({ link }: { link: Link }) {
  return (
    <p class="state" id="state" role="status" data-state={link.state} title={link.explain}>
      <i aria-hidden="true" />
      {link.label}
    </p>
  );
}
