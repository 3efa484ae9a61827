// Tools that this client executes for a session: said on every connection, run when the hub offers a call, answered once.
import type { ClientToolDefinition, Session } from "./api.js";
import { HubError } from "./errors.js";
import { given } from "./given.js";
import type { Home } from "./hub.js";
import { isTerminal, type Command, type HubEvent, type ToolOfferedMessage } from "./protocol.js";

/** The call has its result, or its task has ended: there is nothing left to say. */
const SETTLED = ["already_resolved", "already_terminal", "not_found", "task_not_found", "closed"];

export class ProvidedTools {
  readonly #session: Session & { readonly hub: Home };
  #tools: Readonly<Record<string, ClientToolDefinition>> | undefined;
  /** Calls that are being executed or whose result is on its way. */
  readonly #calls = new Map<string, { taskId: string; abort: AbortController }>();

  constructor(session: Session & { readonly hub: Home }) {
    this.#session = session;
  }

  /** From now on these and no others. */
  set(tools: Readonly<Record<string, ClientToolDefinition>>): void {
    this.#tools = { ...tools };
  }

  /** What a connection is told; `undefined` where there is nothing to say. */
  get command(): Extract<Command, { type: "provide_tools" }> | undefined {
    if (!this.#tools) return undefined;
    const tools = Object.entries(this.#tools).map(([name, { description, parameters }]) => ({ name, ...given({ description, parameters }) }));
    return { type: "provide_tools", sessionId: this.#session.id, tools };
  }

  /** The hub offers a call, possibly once more. */
  offered({ taskId, callId, tool, arguments: args }: ToolOfferedMessage): void {
    const definition = this.#tools?.[tool];
    if (!definition || this.#calls.has(callId)) return;
    const abort = new AbortController();
    this.#calls.set(callId, { taskId, abort });
    void this.#execute(definition, args, { taskId, callId, signal: abort.signal });
  }

  /** What has a result, or belongs to a task that has ended, is executed in vain. */
  observed(event: HubEvent): void {
    if (this.#calls.size === 0) return;
    if (event.type === "tool_result") this.#giveUp(event.data.callId);
    else if (isTerminal(event)) for (const [callId, { taskId }] of [...this.#calls]) if (taskId === event.taskId) this.#giveUp(callId);
  }

  /** The session is not followed any more. */
  stop(): void {
    this.#tools = undefined;
    for (const callId of [...this.#calls.keys()]) this.#giveUp(callId);
  }

  async #execute(definition: ClientToolDefinition, args: unknown, call: { taskId: string; callId: string; signal: AbortSignal }): Promise<void> {
    let result: { output: unknown } | { error: string };
    try {
      const output: unknown = await definition.execute(args as Record<string, unknown>, call);
      // What JSON cannot say fails here, and the model is told.
      result = { output: output === undefined ? null : (JSON.parse(JSON.stringify(output)) as unknown) };
    } catch (cause) {
      result = { error: cause instanceof Error ? cause.message || cause.name : String(cause) };
    }
    if (call.signal.aborted) return;
    try {
      await this.#session.task(call.taskId).toolResult(call.callId, result);
    } catch (cause) {
      if (cause instanceof HubError && SETTLED.includes(cause.code)) return;
      this.#session.hub.problem({ code: "tool", message: `the result of ${call.callId} was not taken`, sessionId: this.#session.id, cause });
    } finally {
      this.#calls.delete(call.callId);
    }
  }

  #giveUp(callId: string): void {
    this.#calls.get(callId)?.abort.abort();
    this.#calls.delete(callId);
  }
}
