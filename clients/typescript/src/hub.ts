// The handle on a hub: sessions by id, the state of it all, what is kept between runs.
import type { Closed, ConnectOptions, CursorStorage, Hub, NewSession, Problem, Session, State } from "./api.js";
import { Connection } from "./connection.js";
import { emptyConversation, type Conversation } from "./conversation.js";
import { HubError } from "./errors.js";
import { uuid } from "./ids.js";
import { Listeners } from "./listeners.js";
import { settingsOf, type Settings } from "./options.js";
import { parseCursor } from "./position.js";
import type { Cursor, WelcomeMessage } from "./protocol.js";
import { request, type HttpCaller } from "./rest.js";
import { FollowedSession } from "./session.js";
import { watch } from "./wake.js";

/** What changes is put away so often, at most. */
const SAVE_MS = 1000;

/**
 * Connects to a hub, and keeps doing so until `close()` or a close code there is no coming back from. Returns at once.
 * @throws TypeError for options that cannot work, HubError `no_websocket`.
 */
export function connect(options: ConnectOptions): Hub {
  const hub = new ConnectedHub(settingsOf(options), options.cursors);
  hub.start();
  return hub;
}

/** What sessions and tasks use of their hub. */
export interface Home extends Hub {
  readonly connection: Connection;
  readonly settings: Settings;
  problem(problem: Problem): void;
  listenerFailed(cause: unknown): void;
  /** A session has changed in what is kept of it. */
  touched(session: FollowedSession): void;
  /** A session's state is another. */
  stateChanged(): void;
  /** A session is not followed any more. `forget`: what is kept of it is of no use. */
  left(session: FollowedSession, forget: boolean): void;
  /** Asks over HTTP; `undefined` where there is no token for it. */
  ask(path: string): Promise<unknown>;
}

class ConnectedHub implements Home {
  readonly connection: Connection;
  readonly settings: Settings;
  readonly #storage: CursorStorage | undefined;
  readonly #sessions = new Map<string, FollowedSession>();
  readonly #changes = new Listeners<[]>((cause) => this.listenerFailed(cause));
  readonly #problems = new Listeners<[Problem]>((cause) => console.error("agent-hub-client: a listener for problems failed", cause));
  #unwatch = () => {};
  #unsaved = new Set<FollowedSession>();
  #saving: ReturnType<typeof setTimeout> | undefined;
  #told = "";

  constructor(settings: Settings, storage: CursorStorage | undefined) {
    this.settings = settings;
    this.#storage = storage;
    this.connection = new Connection(settings, {
      changed: () => this.#tell(true),
      problem: (problem) => this.problem(problem),
      over: (error) => this.#over(error),
    });
  }

  start(): void {
    this.#unwatch = watch({ woke: () => this.connection.wake(), hides: () => this.#save() });
    // Whoever connected has a turn to add listeners first.
    queueMicrotask(() => this.connection.closed?.final || this.connection.start());
  }

  get state(): State {
    const { closed, up, everUp } = this.connection;
    if (closed?.final) return "closed";
    if (!up) return everUp ? "stale" : "connecting";
    for (const { state } of this.#sessions.values()) if (state !== "live") return "replaying";
    return "live";
  }

  get closed(): Closed | undefined {
    return this.connection.closed;
  }

  get welcome(): WelcomeMessage | undefined {
    return this.connection.welcome;
  }

  get transport(): "websocket" | "sse" | undefined {
    return this.connection.transport;
  }

  get sessions(): readonly Session[] {
    return [...this.#sessions.values()];
  }

  onChange(listener: () => void): () => void {
    return this.#changes.add(listener);
  }

  onProblem(listener: (problem: Problem) => void): () => void {
    return this.#problems.add(listener);
  }

  create(session: NewSession = {}): Session {
    this.#open();
    const { sessionId = uuid(), ...about } = session;
    const there = this.#sessions.get(sessionId);
    if (there) return there;
    const made = this.#add(new FollowedSession(this, sessionId, undefined, emptyConversation(sessionId)));
    made.create({ ...about, sessionId });
    return made;
  }

  open(sessionId: string, { after }: { after?: Cursor | "start" } = {}): Session {
    this.#open();
    const there = this.#sessions.get(sessionId);
    if (there) return there;
    const at = after === undefined || after === "start" ? undefined : parseCursor(after);
    if (after !== undefined && after !== "start" && !at) throw new TypeError(`after must be a cursor or "start": ${after}`);
    const stored = after === "start" ? undefined : this.#load(sessionId);
    const usable = stored && (after === undefined || stored.cursor === after) ? stored.conversation : undefined;
    const begin: Conversation = usable ?? emptyConversation(sessionId, at);
    const session = new FollowedSession(this, sessionId, usable ? { epoch: begin.epoch, seq: begin.head } : at, begin, {
      fromStart: after === "start",
      hollow: !usable && at !== undefined && at.seq > 0,
    });
    this.#add(session);
    this.connection.follow(session);
    return session;
  }

  reconnect(): void {
    this.connection.reconnect();
  }

  close(): void {
    this.connection.close();
  }

  problem(problem: Problem): void {
    this.#problems.tell(problem);
  }

  touched(session: FollowedSession): void {
    if (!this.#storage || !session.isWhole || this.#sessions.get(session.id) !== session) return;
    this.#unsaved.add(session);
    this.#saving ??= setTimeout(() => this.#save(), SAVE_MS);
  }

  stateChanged(): void {
    this.#tell(false);
  }

  left(session: FollowedSession, forget: boolean): void {
    if (this.#sessions.get(session.id) !== session) return;
    this.#sessions.delete(session.id);
    if (forget) {
      this.#unsaved.delete(session);
      this.#stored((storage) => storage.remove(session.id));
    }
    this.#tell(true);
  }

  async ask(path: string): Promise<unknown> {
    const { token, http, fetch } = this.settings;
    if (!token) return undefined;
    const caller: HttpCaller = { http, fetch, token: await token() };
    return (await request(caller, "GET", `/api/v1/agents${path}`)).json();
  }

  #open(): void {
    if (this.connection.closed?.final) throw new HubError({ code: "closed", message: "the client is closed; connect again" });
  }

  #add(session: FollowedSession): FollowedSession {
    this.#sessions.set(session.id, session);
    this.#tell(true);
    return session;
  }

  /** `always`: something besides the state is another. */
  #tell(always: boolean): void {
    const { state } = this;
    if (!always && this.#told === state) return;
    this.#told = state;
    this.#changes.tell();
  }

  #over(error: HubError): void {
    this.#unwatch();
    this.#save();
    for (const session of [...this.#sessions.values()]) session.over(error);
  }

  #load(sessionId: string): { cursor: Cursor; conversation: Conversation } | undefined {
    return this.#stored((storage) => storage.load(sessionId));
  }

  #save(): void {
    clearTimeout(this.#saving);
    this.#saving = undefined;
    const unsaved = this.#unsaved;
    this.#unsaved = new Set();
    for (const { id, cursor, conversation } of unsaved) {
      if (cursor !== undefined) this.#stored((storage) => storage.save(id, { cursor, conversation }));
    }
  }

  /** A storage that is full or forbidden costs a reload its comfort, nothing else. */
  #stored<T>(use: (storage: CursorStorage) => T): T | undefined {
    if (!this.#storage) return undefined;
    try {
      return use(this.#storage);
    } catch (cause) {
      this.problem({ code: "storage", message: "the storage for sessions does not work", cause });
      return undefined;
    }
  }

  listenerFailed(cause: unknown): void {
    this.problem({ code: "listener", message: "a listener threw", cause });
    if (this.#problems.size === 0) console.error("agent-hub-client: a listener threw", cause);
  }
}
