// What keeps a connection: one link after another, the same sessions, the same commands. It decides when to come back and what to say
// again; what the messages mean for a session is the session's business.
import type { Closed, Problem } from "./api.js";
import { HubError } from "./errors.js";
import type { Link } from "./link.js";
import { Liveness } from "./liveness.js";
import { Opener } from "./opener.js";
import type { Settings } from "./options.js";
import { Outbox, type Waiting } from "./outbox.js";
import { Pace } from "./pace.js";
import type { AckMessage, AttachSessionCommand, ClientMessage, Command, ErrorMessage, HubEvent, ServerMessage, SessionAttachedMessage, ToolOfferedMessage, WelcomeMessage } from "./protocol.js";
import { CLOSE_CODES, isEvent, resumes } from "./protocol.js";

/** A session that is to be followed on every connection. */
export interface Follower {
  readonly id: string;
  /** How to attach it now; `undefined` where the `create_session` that waits does it, unless it is to be done `anyway`. */
  attach(anyway: boolean): Omit<AttachSessionCommand, "id"> | undefined;
  /** Returns false where it has to be attached once more, from another position. */
  attached(message: SessionAttachedMessage): boolean;
  /** Returns false where events are missing before this one, so that it has to be attached again. */
  event(event: HubEvent): boolean;
  caughtUp(): void;
  /** The tools it executes, if it does. */
  provides(): Command | undefined;
  /** A call of such a tool. */
  offered(message: ToolOfferedMessage): void;
  /** It cannot be attached; it is not followed any more. */
  refused(error: HubError): void;
  /** A connection has come or gone. */
  connectionChanged(): void;
}

/** Who is told. */
export interface Reports {
  /** `closed`, `up`, `welcome` or `transport` is another. */
  changed(): void;
  problem(problem: Problem): void;
  /** There will be no connection any more. */
  over(error: HubError): void;
}

/** After these, a repeated command is tried again: what the first one did is not known. */
const NO_ROOM: readonly string[] = ["rate_limited", "overloaded", "internal"];
/** With these, a command is refused that overtook the one that makes its session or task. */
const NOT_THERE: readonly string[] = ["session_not_found", "task_not_found"];
/** Before trying again, when the hub does not say how long. */
const TRY_AGAIN_MS = 1_000;
/** After these the pauses grow although the hub says welcome each time, until a connection has lived for a while. */
const PRESSED: readonly number[] = [1011, 4053, 4054];
const LIVED_MS = 30_000;
/** A timer for longer would ring at once. */
const LONGEST_MS = 2 ** 31 - 1;

export class Connection {
  /** The hub has said welcome, and the link is open. */
  up = false;
  everUp = false;
  closed: Closed | undefined;
  welcome: WelcomeMessage | undefined;
  transport: Link["transport"] | undefined;

  readonly #settings: Settings;
  readonly #reports: Reports;
  readonly #opener: Opener;
  readonly #outbox: Outbox;
  readonly #followers = new Map<string, Follower>();
  #link: Link | undefined;
  #liveness: Liveness | undefined;
  #unsent: Waiting[] = [];
  #pace = new Pace(Date.now());
  /** Nothing is sent before: the hub has no room. */
  #heldUntil = 0;
  #pump: ReturnType<typeof setTimeout> | undefined;
  /** An attempt that waits for its time. */
  #pause: ReturnType<typeof setTimeout> | undefined;
  #attempts = 0;
  #pressure = 0;
  #upSince = 0;
  #hurriedAt = 0;
  /** Said by the hub: when to come back. */
  #comeBackInMs: number | undefined;
  /** An attempt before would be against its wish. */
  #notBefore = 0;

  constructor(settings: Settings, reports: Reports) {
    this.#settings = settings;
    this.#reports = reports;
    this.#outbox = new Outbox(settings.maxPending);
    this.#opener = new Opener(settings, (problem) => reports.problem(problem));
  }

  start(): void {
    this.#attempt();
  }

  /** Sends a command, over as many connections as it takes. Resolves with `undefined` where `forgive` said that it was done before. */
  send(command: Command, forgive?: (error: HubError) => Promise<boolean>): Promise<AckMessage | undefined> {
    return new Promise((resolve, reject) => {
      if (this.closed?.final) reject(this.#ended());
      else this.#enqueue({ command, own: false, resolve, reject, ...(forgive ? { forgive } : {}) });
    });
  }

  follow(follower: Follower): void {
    this.#followers.set(follower.id, follower);
    this.#attachUnlessLeaving(follower, false);
  }

  /** Tells this connection which tools a session's client executes; the next ones are told by themselves. */
  provide(follower: Follower): Promise<void> {
    return new Promise((resolve, reject) => {
      const command = follower.provides();
      if (!command || !this.up) return resolve();
      const refused = (error: HubError) => {
        this.#reports.problem({ code: error.code, message: `tools are not provided: ${error.message}`, sessionId: follower.id, cause: error });
        reject(error);
      };
      this.#enqueue({ command, own: true, resolve: () => resolve(), reject: refused });
    });
  }

  /** Stops following, and tells the hub. */
  unfollow(id: string): void {
    if (!this.#followers.delete(id)) return;
    this.#unsent = this.#unsent.filter(({ own, command }) => !(own && command.type === "attach_session" && command.sessionId === id));
    this.detach(id);
  }

  /** Tells the hub that a session is not followed, if it is so. Without a connection there is nothing to tell. */
  detach(id: string): void {
    if (!this.up || this.#followers.has(id)) return;
    const left = () => {
      const follower = this.#followers.get(id);
      // Followed again in the meantime. A create before the detach attaches no more.
      if (follower) this.#attachUnlessLeaving(follower, true);
    };
    this.#enqueue({ command: { type: "detach_session", sessionId: id }, own: true, resolve: left, reject: left });
  }

  /** Stops following what the hub has refused. */
  forget(follower: Follower): void {
    if (this.#followers.get(follower.id) === follower) this.#followers.delete(follower.id);
  }

  /** Whether a session is still to be made. */
  creates(id: string): boolean {
    return this.#outbox.some((command) => command.type === "create_session" && command.sessionId === id);
  }

  /** The world may have changed: try, unless the hub has asked for a pause, or see whether it still holds. */
  wake(): void {
    if (this.#pause === undefined) this.#liveness?.probe();
    else if (Date.now() >= this.#notBefore) this.reconnect();
  }

  /** Does not wait for the next attempt. */
  reconnect(): void {
    if (this.#pause === undefined) return;
    clearTimeout(this.#pause);
    this.#attempt();
  }

  close(): void {
    if (this.closed?.final) return;
    this.#link?.close();
    this.#end(1000, "closed");
  }

  #attempt(): void {
    this.#pause = undefined;
    this.#link = undefined;
    this.#opener.open({
      opened: (link) => (this.#link = link),
      message: (message) => this.#receive(message),
      life: () => this.#liveness?.heard(),
      nonsense: () => this.#reports.problem({ code: "frame", message: "the hub sent a frame that is no message" }),
      closed: (how) => this.#lost(how),
    });
  }

  #lost({ code, reason, retryAfterMs }: { code: number; reason: string; retryAfterMs?: number }): void {
    const wasUp = this.up;
    this.#down();
    if (code === 1009) this.#refuseBiggest();
    if (!resumes(code)) return this.#end(code, reason || (CLOSE_CODES[code]?.reason ?? ""));
    const lived = wasUp && Date.now() - this.#upSince >= LIVED_MS;
    if (lived) this.#pressure = 0;
    // A heartbeat that was missed and a token that has expired say nothing about the hub: it is tried at once, but not again and again.
    const hurries = wasUp && (code === 4051 || code === 4050);
    const atOnce = hurries && Math.abs(Date.now() - this.#hurriedAt) > LIVED_MS;
    if (atOnce) this.#hurriedAt = Date.now();
    if (PRESSED.includes(code) || (hurries && !atOnce && !lived)) this.#attempts = Math.max(this.#attempts, ++this.#pressure);
    const told = Math.max(retryAfterMs ?? 0, code === 4053 ? this.#heldUntil - Date.now() : 0);
    // What `going_away` says has its jitter already.
    const own = this.#comeBackInMs !== undefined || atOnce ? 0 : this.#settings.backoff(this.#attempts++);
    const asked = this.#comeBackInMs ?? told;
    const wait = Math.min(Math.max(own, asked), LONGEST_MS);
    this.#notBefore = Date.now() + asked;
    this.#comeBackInMs = undefined;
    this.closed = { code, reason: reason || (CLOSE_CODES[code]?.reason ?? ""), final: false, retryAt: Date.now() + wait };
    this.#pause = setTimeout(() => this.#attempt(), wait);
    this.#connectionChanged();
  }

  #down(): void {
    this.#liveness?.stop();
    this.#liveness = undefined;
    clearTimeout(this.#pump);
    this.#pump = undefined;
    this.#unsent = [];
    this.#link = undefined;
    this.up = false;
    this.transport = undefined;
  }

  #end(code: number, reason: string): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.#opener.stop();
    this.#down();
    this.closed = { code, reason, final: true };
    const error = this.#ended();
    this.#outbox.fail(error);
    this.#connectionChanged();
    this.#reports.over(error);
  }

  #ended(): HubError {
    const { code, reason } = this.closed ?? { code: 1000, reason: "" };
    const message = code === 1000 ? "the client was closed" : `the hub closed the connection for good: ${code} ${reason}`.trimEnd();
    return new HubError({ code: "closed", message, details: { code, reason } });
  }

  #connectionChanged(): void {
    for (const follower of [...this.#followers.values()]) follower.connectionChanged();
    this.#reports.changed();
  }

  #receive(message: ServerMessage): void {
    this.#liveness?.heard();
    try {
      this.#take(message);
    } catch (cause) {
      this.#reports.problem({ code: "frame", message: `a message ${message.type} cannot be read`, cause });
    }
  }

  #take(message: ServerMessage): void {
    if (isEvent(message)) {
      const follower = this.#followers.get(message.sessionId);
      // Of a session that was detached some may still be on their way.
      if (follower && !this.#isLeaving(message.sessionId) && !follower.event(message)) this.#attach(follower);
      return;
    }
    switch (message.type) {
      case "welcome":
        return this.#welcomed(message);
      case "ack":
        return this.#answered(message.id, message);
      case "pong":
        return this.#answered(message.id, undefined);
      case "error":
        return this.#refused(message);
      case "session_attached": {
        const follower = this.#followers.get(message.sessionId);
        if (follower && !this.#isLeaving(message.sessionId) && !follower.attached(message)) this.#attach(follower);
        return;
      }
      case "caught_up":
        if (!this.#isLeaving(message.sessionId)) this.#followers.get(message.sessionId)?.caughtUp();
        return;
      case "tool_offered":
        return this.#followers.get(message.sessionId)?.offered(message);
      case "auth_expiring":
        return this.#refresh(message.inMs, this.#link);
      case "going_away":
        this.#comeBackInMs = message.reconnectAfterMs;
        return;
      default:
        // Of a later version.
        return;
    }
  }

  #welcomed(welcome: WelcomeMessage): void {
    const link = this.#link;
    if (this.up || !link) return;
    this.#attempts = this.#pressure;
    this.#comeBackInMs = undefined;
    this.#upSince = Date.now();
    this.up = this.everUp = true;
    this.welcome = welcome;
    this.transport = link.transport;
    this.closed = undefined;
    this.#pace = new Pace(Date.now());
    this.#heldUntil = 0;
    this.#liveness = new Liveness(welcome.heartbeatMs, () => this.#ping(), () => this.#dead(link));
    // Attached first, so that what the commands do is seen by who is there already.
    this.#unsent = [];
    const again = this.#outbox.again();
    for (const follower of [...this.#followers.values()]) this.#attach(follower);
    this.#unsent.push(...again);
    // Behind the command that may still have to make the session.
    for (const follower of [...this.#followers.values()]) void this.provide(follower).catch(() => {});
    this.#connectionChanged();
    this.#send();
  }

  #dead(link: Link): void {
    if (link !== this.#link) return;
    link.abandon();
    this.#lost({ code: 1006, reason: "the hub does not answer" });
  }

  #ping(): void {
    // Outside the line: what waits for room must not keep it waiting.
    const waiting = this.#outbox.add({ command: { type: "ping" }, own: true, resolve: () => {}, reject: () => {} });
    if (waiting && this.#link) this.#handOver(this.#link, waiting);
  }

  /** Behind the answer to a detach: what was sent of the attach before it is then told from what is sent of the next one. */
  #attachUnlessLeaving(follower: Follower, anyway: boolean): void {
    if (this.up && !this.#isLeaving(follower.id)) this.#attach(follower, anyway);
  }

  #attach(follower: Follower, anyway = false): void {
    const command = follower.attach(anyway);
    if (!command) return;
    const reject = (error: HubError) => {
      if (this.#followers.get(follower.id) !== follower) return;
      this.forget(follower);
      follower.refused(error);
    };
    this.#enqueue({ command, own: true, resolve: () => {}, reject });
  }

  /** Whether a detach is not answered, so that what comes belongs to an attach before it. */
  #isLeaving(id: string): boolean {
    return this.#outbox.some((command) => command.type === "detach_session" && command.sessionId === id);
  }

  /** In band: the socket goes on with the new token. With tickets, or one token for ever, there is nothing to give. */
  #refresh(inMs: number, link: Link | undefined, failures = 0): void {
    const { newToken } = this.#settings;
    if (!newToken) return;
    const complain = (cause: unknown) => {
      if (link !== this.#link) return;
      this.#reports.problem({ code: "credentials", message: "the token that expires could not be replaced", cause });
      // There is time for two more; after that the hub closes with 4050.
      if (failures < 2) setTimeout(() => link === this.#link && this.#refresh(inMs, link, failures + 1), inMs / 4);
    };
    newToken().then((token) => {
      if (link !== this.#link || !this.up) return;
      if (token === undefined) return complain(new TypeError("getToken gave the same token again"));
      this.#enqueue({ command: { type: "refresh_token", token }, own: true, resolve: () => {}, reject: complain });
    }, complain);
  }

  #enqueue(what: Omit<Waiting, "n" | "sends">): void {
    const waiting = this.#outbox.add(what);
    if (!waiting || !this.up) return;
    this.#unsent.push(waiting);
    this.#send();
  }

  /** Hands over what waits, as fast as the hub takes it. */
  #send(): void {
    clearTimeout(this.#pump);
    this.#pump = undefined;
    while (this.#link && this.up) {
      const next = this.#unsent[0];
      if (!next) return;
      const now = Date.now();
      const wait = this.#heldUntil > now ? this.#heldUntil - now : this.#pace.take(now);
      if (wait > 0) {
        this.#pump = setTimeout(() => this.#send(), Math.min(wait, LONGEST_MS));
        return;
      }
      this.#unsent.shift();
      if (this.#outbox.get(next.n)) this.#handOver(this.#link, next);
    }
  }

  #handOver(link: Link, waiting: Waiting): void {
    const message = { id: waiting.n, ...waiting.command } as ClientMessage;
    const text = JSON.stringify(message);
    const most = this.welcome?.limits?.messageBytes ?? Infinity;
    // No character is more than three bytes.
    if (text.length * 3 > most && new TextEncoder().encode(text).length > most) return this.#refuseTooBig(waiting, `the hub takes ${most} bytes`);
    waiting.sends += 1;
    link.send(message, text);
  }

  #refuseTooBig(waiting: Waiting, why: string): void {
    this.#outbox.remove(waiting);
    waiting.reject(new HubError({ code: "payload_too_large", message: `the command is too large: ${why}` }));
  }

  /** The hub has hung up over a message that is too big: it must not be said again. */
  #refuseBiggest(): void {
    const sent = this.#outbox.again().filter(({ sends }) => sends > 0);
    const size = ({ command }: Waiting) => JSON.stringify(command).length;
    const biggest = sent.reduce<Waiting | undefined>((found, next) => (found && size(found) >= size(next) ? found : next), undefined);
    if (biggest) this.#refuseTooBig(biggest, "the hub closed the connection over it");
  }

  #answered(id: unknown, ack: AckMessage | undefined): void {
    const waiting = this.#outbox.get(id);
    if (!waiting) return;
    this.#outbox.remove(waiting);
    waiting.resolve(ack);
  }

  #refused(message: ErrorMessage): void {
    const error = HubError.from(message);
    const waiting = this.#outbox.get(message.id);
    if (!waiting) {
      if (error.retryAfterMs !== undefined) this.#hold(error.retryAfterMs);
      const { code, message: text } = error;
      return this.#reports.problem({ code, message: text, cause: error, ...(message.sessionId ? { sessionId: message.sessionId } : {}) });
    }
    const repeated = waiting.sends > 1;
    if (waiting.own ? error.retryable : repeated && NO_ROOM.includes(error.code)) {
      this.#hold(error.retryAfterMs ?? TRY_AGAIN_MS);
      return this.#putBack(waiting);
    }
    // What it is about is still to be made: the command that makes it was put back.
    if (NOT_THERE.includes(error.code) && this.#outbox.makes(waiting)) return this.#putBack(waiting);
    this.#outbox.remove(waiting);
    if (!repeated || !waiting.forgive) return waiting.reject(error);
    waiting.forgive(error).then((done) => (done ? waiting.resolve(undefined) : waiting.reject(error)), waiting.reject);
  }

  /** Where it was among those that wait: the client's own before the others, each kind in the order it was given. */
  #putBack(waiting: Waiting): void {
    const behind = (other: Waiting) => (other.own === waiting.own ? other.n > waiting.n : waiting.own);
    const at = this.#unsent.findIndex(behind);
    this.#unsent.splice(at < 0 ? this.#unsent.length : at, 0, waiting);
    this.#send();
  }

  #hold(ms: number): void {
    this.#heldUntil = Math.max(this.#heldUntil, Date.now() + ms);
  }
}
