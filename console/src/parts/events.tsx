// The log itself: every event as it is stored, one line each, and the whole of the one that is looked at.
import type { HubEvent } from "../client";
import { precise } from "../words";
import { Rows } from "./rows";

const ROW_HEIGHT = 28;
/** Characters of an event on its line; the whole of it is below. */
const LINE_CHARS = 160;

interface Props {
  events: readonly HubEvent[];
  /** Events before the first one here. */
  before?: number;
  /** Index of the one looked at. */
  current?: number | undefined;
  /** Index behind the last one that counts; later ones are dimmed. */
  reached?: number;
  follow?: boolean;
  onPick(index: number): void;
}

export function EventList({ events, before = 0, current, reached, follow, onPick }: Props) {
  const picked = current === undefined ? undefined : events[current];
  return (
    <div class="events">
      {before > 0 && <p class="note pad">{before.toLocaleString("en")} earlier events are not kept here. The replay has them.</p>}
      {events.length === 0 && <p class="dim pad">No events yet.</p>}
      <Rows
        label="Events of the log"
        count={events.length}
        rowHeight={ROW_HEIGHT}
        current={current}
        follow={follow ?? false}
        onMove={onPick}
        row={(index) => {
          const event = events[index]!;
          return (
            <li key={event.seq} style={{ height: `${ROW_HEIGHT}px` }}>
              <button
                type="button"
                tabIndex={-1}
                class={`event${index === current ? " current" : ""}${reached !== undefined && index >= reached ? " ahead" : ""}`}
                aria-current={index === current}
                onClick={() => onPick(index)}
              >
                <b>{event.seq}</b>
                <strong class={familyOf(event.type)}>{event.type}</strong>
                <span>{textOf(event)}</span>
              </button>
            </li>
          );
        }}
      />
      {picked && (
        <div class="event-whole">
          <p>
            <b>{picked.type}</b> <span class="dim">event {picked.seq}, {precise(picked.at)}</span>
          </p>
          <pre tabIndex={0} aria-label={`Event ${picked.seq}`}>{JSON.stringify(picked, null, 2)}</pre>
        </div>
      )}
    </div>
  );
}

function textOf(event: HubEvent): string {
  const { data } = event;
  const text = "token" in data && typeof data.token === "string" ? data.token : JSON.stringify(data);
  return text.slice(0, LINE_CHARS);
}

function familyOf(type: string): string {
  if (type === "token" || type === "message" || type === "reasoning") return "said";
  if (type.startsWith("tool_") || type === "step" || type === "usage") return "did";
  if (type.startsWith("input_") || type.startsWith("steer_") || type === "cancel_requested") return "asked";
  return type === "task_failed" || type === "task_timeout" ? "ended-badly" : "was";
}
