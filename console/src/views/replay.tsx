// A session's log, gone through by hand or played: what it was at any of its moments.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { emptyConversation, reduce, type Conversation } from "agent-hub-client/conversation";
import { complaint, events as eventPage, session as sessionDetails, type SessionDetails } from "../api";
import type { HubEvent } from "../client";
import { useKeys } from "../keys";
import { ConversationView } from "../parts/conversation";
import { EventList } from "../parts/events";
import * as Icon from "../parts/icons";
import { copyLink } from "../parts/share";
import { nameOf } from "../parts/sidebar";
import { Timeline } from "../parts/timeline";
import { advance, Folds, LONGEST_PAUSE_MS, SPEEDS } from "../playback";
import { hashOf } from "../route";
import { duration, precise } from "../words";

/** More are not held in a page: some 50 MB. */
const MOST_EVENTS = 100_000;

interface Loaded {
  about: SessionDetails;
  events: HubEvent[];
  /** Cursor of the last one here. */
  next: string;
  head: number;
}

interface Props {
  id: string;
  seq: number | undefined;
  user: string | undefined;
}

export function ReplayPage({ id, seq, user }: Props) {
  const [loaded, setLoaded] = useState<Loaded>();
  const [trouble, setTrouble] = useState<string>();
  const [wanted, setWanted] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    setTrouble(undefined);
    load(id, wanted ? loaded : undefined, stop.signal, setLoaded).catch((error: unknown) => {
      if (stop.signal.aborted) return;
      setTrouble(complaint(error));
      // Another try begins at the beginning: what was read may be of another history.
      setLoaded(undefined);
    });
    return () => stop.abort();
  }, [id, wanted]);

  if (trouble) {
    return (
      <div class="page">
        <div class="notice">
          <strong>The log cannot be read</strong>
          <p>{trouble}</p>
          <button type="button" class="primary" onClick={() => setWanted((n) => n + 1)}>
            Try again
          </button>
        </div>
      </div>
    );
  }
  if (!loaded || loaded.about.id !== id) return <p class="page dim">Reading the log…</p>;
  return <Player key={id} loaded={loaded} seq={seq} user={user} onMore={() => setWanted((n) => n + 1)} />;
}

/** All pages, shown as they come; behind what is there already. */
async function load(id: string, before: Loaded | undefined, signal: AbortSignal, show: (loaded: Loaded) => void): Promise<void> {
  const about = await sessionDetails(id);
  let events = before?.events ?? [];
  let next = before?.next;
  let head = Number(about.cursor.split(".")[1]);
  do {
    const page = await eventPage(id, next, 1000, signal);
    if (!page.recovered) throw new Error("The hub has another history of this session than the one that was being read.");
    events = [...events, ...page.events];
    next = page.next;
    head = Math.max(head, Number(page.head.split(".")[1]));
    if (signal.aborted) return;
    show({ about, events, next, head });
    if (!page.events.length) return;
  } while (events.length < head && events.length < MOST_EVENTS);
}

type Side = "events" | "timeline";

function Player({ loaded, seq, user, onMore }: { loaded: Loaded; seq: number | undefined; user: string | undefined; onMore(): void }) {
  const { about, events, head } = loaded;
  const total = events.length;
  const [position, setPosition] = useState(() => Math.min(seq ?? total, total));
  const [speed, setSpeed] = useState(1);
  const [side, setSide] = useState<Side>("events");
  const folds = useMemo(() => new Folds<HubEvent, Conversation>(events, emptyConversation(about.id), reduce), [events]);
  const conversation = useMemo(() => folds.at(position), [folds, position]);
  const { playing, play, pause } = usePlaying(events, position, setPosition, speed);
  useAddress(about.id, position, total, playing);

  // Where to be while the log is still being read: at the moment the link names, otherwise at its end. Until the reader goes elsewhere.
  const wanted = useRef<number | undefined>(seq ?? Infinity);
  useEffect(() => {
    if (wanted.current === undefined) return;
    setPosition(Math.min(wanted.current, total));
    if (total >= Math.min(wanted.current, head)) wanted.current = undefined;
  }, [total]);

  const move = (to: number) => {
    pause();
    wanted.current = undefined;
    setPosition(Math.max(0, Math.min(to, total)));
  };
  const toggle = () => {
    wanted.current = undefined;
    if (playing) pause();
    else play();
  };
  useKeys({ " ": toggle, ArrowLeft: () => move(position - 1), ArrowRight: () => move(position + 1), Home: () => move(0), End: () => move(total) });

  const at = events[position - 1];
  const moment = at ? Date.parse(at.at) : undefined;
  const loading = total < head && total < MOST_EVENTS;
  return (
    <div class="session replay with-panel">
      <header class="session-head">
        <h1 class="session-title">
          {nameOf(about)} <b class="tag">replay</b>
        </h1>
        <div class="session-tools">
          <a class="button small" href={hashOf({ at: "session", id: about.id })}>
            <Icon.Back /> <span>To the session</span>
          </a>
          <button type="button" class="small" onClick={() => void copyLink({ at: "replay", id: about.id, seq: position }, user)}>
            <Icon.Link /> <span>Copy link to this moment</span>
          </button>
          <div class="toggles" role="group" aria-label="Beside the conversation">
            <button type="button" class="small" aria-pressed={side === "events"} onClick={() => setSide("events")}>
              Events
            </button>
            <button type="button" class="small" aria-pressed={side === "timeline"} onClick={() => setSide("timeline")}>
              Timeline
            </button>
          </div>
        </div>
      </header>
      <div class="session-main">
        <ConversationView conversation={conversation} empty={<p class="dim empty">{position === 0 ? "Before the first event." : "Nothing said yet."}</p>} />
        <div class="transport" role="group" aria-label="Replay">
          <div class="transport-line">
            <input
              type="range"
              class="scrub"
              min={0}
              max={total}
              value={position}
              aria-label="Position in the log"
              aria-valuetext={at ? `Event ${at.seq} of ${total}, ${at.type}` : "before the first event"}
              onInput={(event) => move(Number(event.currentTarget.value))}
            />
          </div>
          <div class="transport-line">
            <button type="button" class="icon-only" aria-label="To the beginning" onClick={() => move(0)} disabled={position === 0}>
              <Icon.ToStart />
            </button>
            <button type="button" class="icon-only" aria-label="One event back" onClick={() => move(position - 1)} disabled={position === 0}>
              <Icon.Back />
            </button>
            <button type="button" class="primary icon-only" aria-label={playing ? "Pause" : "Play"} onClick={toggle} disabled={total === 0}>
              {playing ? <Icon.Pause /> : <Icon.Play />}
            </button>
            <button type="button" class="icon-only" aria-label="One event on" onClick={() => move(position + 1)} disabled={position === total}>
              <Icon.Forward />
            </button>
            <button type="button" class="icon-only" aria-label="To the end" onClick={() => move(total)} disabled={position === total}>
              <Icon.ToEnd />
            </button>
            <label class="speed">
              <span class="hidden">Speed</span>
              <select value={speed} onChange={(event) => setSpeed(Number(event.currentTarget.value))} title={`Pauses longer than ${duration(LONGEST_PAUSE_MS)} are shortened to that`}>
                {SPEEDS.map((one) => (
                  <option key={one} value={one}>
                    {one}×
                  </option>
                ))}
              </select>
            </label>
            <p class="where">
              <b id="position">
                {position} / {total}
              </b>{" "}
              {at ? (
                <>
                  <span class="event-type">{at.type}</span> <span class="dim">{precise(at.at)}</span>
                </>
              ) : (
                <span class="dim">before the first event</span>
              )}
            </p>
            <span class="grow" />
            {loading ? (
              <span class="dim" role="status">Reading {total.toLocaleString("en")} of {head.toLocaleString("en")}…</span>
            ) : total < head ? (
              <span class="dim">The first {total.toLocaleString("en")} of {head.toLocaleString("en")} events</span>
            ) : (
              about.status !== "ended" && (
                <button type="button" class="plain small" onClick={onMore}>
                  Read newer
                </button>
              )
            )}
          </div>
        </div>
      </div>
      <aside class="panel" aria-label={side === "events" ? "Events" : "Timeline"}>
        {side === "events" ? (
          <EventList events={events} current={position === 0 ? undefined : position - 1} reached={position} onPick={(index) => move(index + 1)} />
        ) : (
          <Timeline tasks={conversation.tasks} now={moment} />
        )}
      </aside>
    </div>
  );
}

/** Moves the position as time goes by, as the events were apart. */
function usePlaying(events: HubEvent[], position: number, setPosition: (to: number) => void, speed: number) {
  const [playing, setPlaying] = useState(false);
  const at = useRef(position);
  at.current = position;
  // Paused is paused, also for a picture that was asked for before.
  const runs = useRef(false);
  useEffect(() => {
    if (!playing) return;
    let last = performance.now();
    let left = 0;
    let frame = requestAnimationFrame(function tick(now) {
      if (!runs.current) return;
      const next = advance(events, at.current, left + Math.min(now - last, 1000), speed);
      last = now;
      left = next.left;
      if (next.position !== at.current) setPosition(next.position);
      if (next.position >= events.length) return setPlaying(false);
      frame = requestAnimationFrame(tick);
    });
    return () => cancelAnimationFrame(frame);
  }, [playing, events, speed]);
  return {
    playing,
    pause() {
      runs.current = false;
      setPlaying(false);
    },
    play() {
      runs.current = true;
      if (at.current >= events.length) setPosition(0);
      setPlaying(true);
    },
  };
}

/** The address follows, so that it can be copied or reloaded; not at every event while it plays. */
function useAddress(id: string, position: number, total: number, playing: boolean): void {
  useEffect(() => {
    if (playing) return;
    const timer = setTimeout(() => history.replaceState(null, "", hashOf(position === total ? { at: "replay", id } : { at: "replay", id, seq: position })), 250);
    return () => clearTimeout(timer);
  }, [position, total, playing]);
}
