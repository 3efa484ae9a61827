// The connection of this page, and the sessions that are followed over it.
import { useEffect, useReducer } from "preact/hooks";
import { connect, type Hub, type HubEvent, type NewSession, type Session, type SubmitOptions, type Task } from "./client";
import { session as sessionDetails, updateSession } from "./api";
import { onFrame } from "./frame";
import { getToken, identity, replaceToken } from "./identity";
import { toast } from "./parts/toast";
import { excerpt } from "./words";

/** Of one session, for the list of events. The oldest go; the log keeps them, and the replay reads them from there. */
const EVENTS_KEPT = 20_000;
/** Sessions looked at lately stay attached, so that going back to one shows it at once. */
const SESSIONS_FOLLOWED = 4;
/** A log up to this long is read from its beginning, so that every step is there; a longer one from a snapshot. */
const READ_WHOLE_UP_TO = 20_000;
const AUTHENTICATION_FAILED = 4001;
const REPLACE_EVERY_MS = 10_000;

/** Submitted here, and not in the log yet. */
export interface Pending {
  taskId: string;
  prompt: string;
  /** Why the hub did not take it. */
  refused?: string;
}

/** A session that is followed: the client's, with what the page keeps beside it. */
export class Followed {
  readonly events: HubEvent[] = [];
  pending: Pending[] = [];
  #named: boolean;
  #listeners = new Set<() => void>();
  #frame = onFrame(() => this.#listeners.forEach((listener) => listener()));

  constructor(
    readonly session: Session,
    named: boolean,
  ) {
    this.#named = named;
    session.onEvent((event) => this.#take(event));
    session.onAttached(({ kept }) => {
      // Another history: what was listed is not in it.
      if (!kept) this.events.length = 0;
    });
    session.onChange(() => {
      // A snapshot may have what was pending, without an event that says so.
      if (this.pending.length) this.pending = this.pending.filter(({ taskId }) => !session.conversation.tasks.some(({ id }) => id === taskId));
      this.#frame.ask();
    });
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  submit(prompt: string, options?: SubmitOptions): Task {
    const task = this.session.submit(prompt, options);
    this.pending = [...this.pending, { taskId: task.id, prompt }];
    // Accepted is not shown yet: it is taken from here when its first event is.
    task.accepted.catch((error: Error) => this.#settle(task.id, error.message));
    this.#frame.ask();
    this.#nameAfter(prompt);
    return task;
  }

  forget(taskId: string): void {
    this.#settle(taskId);
  }

  detach(): void {
    this.#frame.cancel();
    this.session.detach();
  }

  #take(event: HubEvent): void {
    this.events.push(event);
    if (this.events.length > EVENTS_KEPT * 1.1) this.events.splice(0, this.events.length - EVENTS_KEPT);
    if (event.type === "session_updated" && event.data.name) this.#named = true;
    if (event.type === "task_queued") this.#settle(event.taskId);
    if (LIST_CHANGES.has(event.type)) listChanged();
    this.#frame.ask();
  }

  #settle(taskId: string, refused?: string): void {
    const kept = this.pending.filter((one) => one.taskId !== taskId);
    const mine = this.pending.find((one) => one.taskId === taskId);
    if (!mine) return;
    this.pending = refused === undefined ? kept : [...kept, { ...mine, refused }];
    this.#frame.ask();
  }

  /** A session without a name is found again by its first prompt. */
  #nameAfter(prompt: string): void {
    if (this.#named) return;
    this.#named = true;
    const name = excerpt(prompt, 60);
    void this.session.ready.then(() => updateSession(this.session.id, { name })).catch(() => {});
  }
}

const LIST_CHANGES = new Set<string>(["session_created", "session_updated", "session_ended", "task_queued", "task_completed", "task_failed", "task_cancelled", "task_timeout"]);

let hub: Hub | undefined;
let followed = new Map<string, Followed>();
const hubListeners = new Set<() => void>();
const listListeners = new Set<() => void>();

function changed(): void {
  hubListeners.forEach((listener) => listener());
}

function listChanged(): void {
  listListeners.forEach((listener) => listener());
}

/** Something happened that a list of sessions shows. */
export function onListChange(listener: () => void): () => void {
  listListeners.add(listener);
  return () => void listListeners.delete(listener);
}

/** The connection; made when it is first needed. */
export function theHub(): Hub {
  if (hub) return hub;
  // The client offers the token as a subprotocol: it stands in no address.
  const mine = connect({ url: location.origin, getToken });
  hub = mine;
  let refused = false;
  mine.onChange(() => {
    if (mine !== hub) return;
    // The token was refused, or it was revoked. Where the hub gives out tokens another one is as good. Each session that is left is told, too.
    if (!refused && mine.closed?.final && mine.closed.code === AUTHENTICATION_FAILED) {
      refused = true;
      void afterRefusal();
    }
    changed();
  });
  mine.onProblem(({ code, message }) => {
    console.warn(`agent-hub: ${code}: ${message}`);
    if (code === "fallback") toast("No WebSocket gets through to the hub. The console goes on with Server-Sent Events; everything works, a little slower.");
  });
  return mine;
}

let replacedAt = -Infinity;

/** A hub that refuses what it has just given out has another trouble: it is not asked again and again. */
async function afterRefusal(): Promise<void> {
  if (identity().minted && performance.now() - replacedAt < REPLACE_EVERY_MS) return;
  replacedAt = performance.now();
  if (await replaceToken()) startAgain();
}

/** With other credentials. What was followed is opened again by who looks at it. */
export function startAgain(): void {
  const before = hub;
  hub = undefined;
  followed = new Map();
  before?.close();
  changed();
}

/** Draws again whenever the state of the connection changes. */
export function useHub(): Hub | undefined {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    hubListeners.add(draw as () => void);
    return () => void hubListeners.delete(draw as () => void);
  }, []);
  return identity().phase === "known" ? theHub() : undefined;
}

/** Draws again, at most once per picture, whenever something changes in a session. */
export function useFollowed(one: Followed | undefined): void {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => one?.onChange(draw as () => void), [one]);
}

export function create(asked: NewSession): Followed {
  makeRoom();
  const made = new Followed(theHub().create(asked), Boolean(asked.name));
  keep(made);
  return made;
}

/** A session by its id. Throws what the hub says where there is none, or it is somebody else's. */
export async function follow(id: string): Promise<Followed> {
  const there = followed.get(id);
  if (there && there.session.state !== "closed") {
    keep(there);
    return there;
  }
  const connection = theHub();
  const { cursor, name } = await sessionDetails(id);
  const whole = Number(cursor.split(".")[1]) <= READ_WHOLE_UP_TO;
  const now = followed.get(id);
  if (now && now.session.state !== "closed") return now;
  followed.delete(id);
  makeRoom();
  const one = new Followed(connection.open(id, whole ? { after: "start" } : {}), Boolean(name));
  keep(one);
  return one;
}

function keep(one: Followed): void {
  followed.delete(one.session.id);
  followed.set(one.session.id, one);
}

/** Before another one is followed: over Server-Sent Events there is no place for more. */
function makeRoom(): void {
  for (const [id, oldest] of followed) {
    if (followed.size < SESSIONS_FOLLOWED) return;
    followed.delete(id);
    oldest.detach();
  }
}
