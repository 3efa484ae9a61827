// What was said, in the order it was said: a person's words, what the agent did about them, what it answered, and how it ended.
import type { ComponentChildren } from "preact";
import { Component } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { isOver, type Conversation, type Message, type TaskView } from "agent-hub-client/conversation";
import type { Pending } from "../live";
import { duration, excerpt, plural } from "../words";
import { Cross, Down, Gear, Tool } from "./icons";
import { Streamed } from "./streamed";

interface Props {
  conversation: Conversation;
  pending?: Pending[];
  /** Whether what is pending is on its way. */
  connected?: boolean;
  /** Requests of a task, drawn where it stands. */
  inputs?(task: TaskView): ComponentChildren;
  /** Said at the end where nothing else is. */
  empty?: ComponentChildren;
  onShowTask?(taskId: string): void;
  onCancel?(taskId: string): void;
  onForget?(pending: Pending): void;
}

export function ConversationView({ conversation, pending = [], connected = true, inputs, empty, onShowTask, onCancel, onForget }: Props) {
  const { place, stuck, look, toEnd } = useEnd();
  const tasks = new Map(conversation.tasks.map((task) => [task.id, task]));
  const groups = groupsOf(conversation.messages);
  // What sub-agents and workflows do is no part of the conversation; the timeline has it.
  const asked = conversation.tasks.filter(({ parentTaskId, workflow }) => parentTaskId === undefined && workflow === undefined);
  const waiting = asked.filter(({ status, startedAt }) => status === "queued" && startedAt === undefined);
  // Cancelled before it began: there is no message of it, and still it was asked.
  const shown = new Set(groups.map(({ taskId }) => taskId));
  const unsaid = asked.filter((task) => isOver(task.status) && !shown.has(task.id) && !task.rollback);
  const nothing = !groups.length && !waiting.length && !pending.length && !unsaid.length;
  return (
    <div class="scroll-frame">
      <div class="conversation" id="conversation" ref={place} onScroll={look} tabIndex={0} role="log" aria-live="off" aria-label="Conversation">
        <div class="thread">
          {conversation.earlierMessages > 0 && (
            <p class="note">{plural(conversation.earlierMessages, "earlier message")} not shown here. The replay has everything.</p>
          )}
          {groups.map((group) => (
            <Group key={group.key} group={group} task={tasks.get(group.taskId ?? "")} inputs={inputs} onShowTask={onShowTask} />
          ))}
          {unsaid.map((task) => (
            <div class="group" role="group" key={task.id} aria-label={excerpt(task.prompt, 40)}>
              <p class="message user">{task.prompt}</p>
              <End task={task} />
            </div>
          ))}
          {waiting.map((task) => (
            <Waiting key={task.id} prompt={task.prompt} ahead={conversation.queue.indexOf(task.id)} busy={conversation.tasks.some(isAtWork)} onCancel={onCancel && (() => onCancel(task.id))} />
          ))}
          {conversation.tasks
            .filter((task) => !asked.includes(task) && !isOver(task.status))
            .map((task) => inputs?.(task))}
          {pending.map((one) => (
            <Unsent key={one.taskId} pending={one} connected={connected} onForget={onForget && (() => onForget(one))} />
          ))}
          {conversation.ended && <p class="note">{ENDED[conversation.ended] ?? "The session has ended. Its log stays readable."}</p>}
          {nothing && !conversation.ended && empty}
        </div>
      </div>
      {!stuck && (
        <button type="button" class="to-end" onClick={toEnd}>
          <Down /> Newest
        </button>
      )}
    </div>
  );
}

const ENDED: Record<string, string> = {
  deleted: "The session has been deleted. What stands here is all that is left of it.",
  expired: "The session has expired. Its log stays readable.",
};

const isAtWork = ({ status }: TaskView): boolean => status === "running" || status === "suspended";

interface MessageGroup {
  key: string;
  taskId: string | undefined;
  messages: Message[];
}

/** Neighbouring messages of one task. */
function groupsOf(messages: readonly Message[]): MessageGroup[] {
  const groups: MessageGroup[] = [];
  for (const message of messages) {
    const last = groups.at(-1);
    if (last && last.taskId === message.taskId) last.messages.push(message);
    else groups.push({ key: message.id, taskId: message.taskId, messages: [message] });
  }
  return groups;
}

/**
 * Stays at the end as text arrives, until the reader scrolls up; and again once she is back at the end. Growing text never counts as
 * scrolling: only a position that went up does.
 */
function useEnd() {
  const place = useRef<HTMLDivElement>(null);
  const last = useRef(0);
  const follows = useRef(true);
  const [stuck, setStuck] = useState(true);
  const become = (next: boolean) => {
    follows.current = next;
    setStuck(next);
  };
  useLayoutEffect(() => {
    const it = place.current;
    if (!it || !follows.current) return;
    it.scrollTop = it.scrollHeight;
    last.current = it.scrollTop;
  });
  // A form that says what is wrong with it, a window of another size: the thread grows without being drawn again.
  useEffect(() => {
    const it = place.current;
    const observer = new ResizeObserver(() => {
      if (!it || !follows.current) return;
      it.scrollTop = it.scrollHeight;
      last.current = it.scrollTop;
    });
    for (const one of [it, it?.firstElementChild]) if (one) observer.observe(one);
    return () => observer.disconnect();
  }, []);
  const look = () => {
    const it = place.current;
    if (!it) return;
    const below = it.scrollHeight - it.scrollTop - it.clientHeight;
    if (it.scrollTop < last.current - 1 && below > 4) become(false);
    else if (below <= 4) become(true);
    last.current = it.scrollTop;
  };
  const toEnd = () => {
    become(true);
    const it = place.current;
    if (it) it.scrollTop = it.scrollHeight;
    it?.focus();
  };
  return { place, stuck, look, toEnd };
}

interface GroupProps {
  group: MessageGroup;
  task: TaskView | undefined;
  inputs?: Props["inputs"];
  onShowTask?: Props["onShowTask"];
}

function Group({ group, task, inputs, onShowTask }: GroupProps) {
  const first = group.messages.findIndex(({ role }) => role === "assistant");
  const asked = first < 0 ? group.messages : group.messages.slice(0, first);
  const answered = first < 0 ? [] : group.messages.slice(first);
  return (
    <div class="group" role="group" data-task={group.taskId} data-status={task?.status} aria-label={`Asked: ${excerpt(asked[0]?.text ?? "", 40)}`}>
      {asked.map((message) => (
        <Line key={message.id} message={message} />
      ))}
      {task && <Thoughts task={task} />}
      {task && <Activity task={task} onShow={onShowTask && (() => onShowTask(task.id))} />}
      {task && <Answered task={task} />}
      {answered.map((message) => (
        <Line key={message.id} message={message} />
      ))}
      {task && inputs?.(task)}
      {task && <End task={task} />}
    </div>
  );
}

/** Drawn again only when the message is another object: the fold keeps those that did not change. */
class Line extends Component<{ message: Message }> {
  override shouldComponentUpdate(next: { message: Message }): boolean {
    return next.message !== this.props.message;
  }

  render() {
    const { role, text, streaming, partial } = this.props.message;
    if (role === "user") return <p class="message user">{text}</p>;
    return (
      <div class={`message assistant${streaming ? " streaming" : ""}${partial && !streaming ? " broken-off" : ""}`} aria-busy={streaming}>
        <Streamed text={text} done={!streaming} />
      </div>
    );
  }
}

function Thoughts({ task }: { task: TaskView }) {
  if (!task.reasoning) return null;
  const thinking = task.status === "running" && !task.partial;
  return (
    <details class="thoughts" open={thinking}>
      <summary>{thinking ? "Thinking…" : "What it thought first"}</summary>
      <p>
        <Streamed text={task.reasoning} done={!thinking} />
      </p>
    </details>
  );
}

/** What it did beside talking, on one line; more is in the timeline. */
function Activity({ task, onShow }: { task: TaskView; onShow: (() => void) | undefined }) {
  const calls = task.toolCalls;
  const open = task.steps.findLast(({ phase }) => phase === "started");
  const failed = calls.filter(({ error }) => error !== undefined).length;
  const words = [
    calls.length > 0 && `${plural(calls.length, "tool call")}${failed ? `, ${failed} failed` : ""}`,
    task.steers.length > 0 && plural(task.steers.length, "steer"),
    task.attempt > 1 && `taken up again after a restart, attempt ${task.attempt}`,
  ].filter(Boolean);
  const state =
    task.status === "running"
      ? task.cancelRequested
        ? "Stopping…"
        : task.recovering
          ? "The hub was restarted; taking it up again…"
          : open && open.tool
            ? `Calling ${open.tool}…`
            : task.partial
              ? undefined
              : "Waiting for the model…"
      : task.status === "suspended"
        ? task.suspendedFor === "input"
          ? "Waits for you"
          : "Suspended"
        : undefined;
  if (!words.length && !state) return null;
  const text = [state, words.join(" · ")].filter(Boolean).join(" · ");
  const look = calls.length ? <Tool /> : <Gear />;
  return onShow ? (
    <button type="button" class={`activity${state ? " busy" : ""}`} onClick={onShow} title="Show it in the timeline">
      {look} {text}
    </button>
  ) : (
    <p class={`activity${state ? " busy" : ""}`}>
      {look} {text}
    </p>
  );
}

/** The tool by which an agent asks a person. */
const ASKING = "ask_user";

/** What a person was asked, and said: it is no message, and still part of what was talked about. */
function Answered({ task }: { task: TaskView }) {
  const asked = task.toolCalls.filter(({ tool, done }) => tool === ASKING && done);
  return (
    <>
      {asked.map((call) => {
        const { question } = (call.arguments ?? {}) as { question?: unknown };
        const answer = call.error ?? (typeof call.output === "string" ? call.output : JSON.stringify(call.output));
        return (
          <p class="note answered" key={call.callId}>
            {typeof question === "string" ? question : "Asked"} <b>{answer}</b>
          </p>
        );
      })}
    </>
  );
}

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : text + ".");

const ENDS = { failed: "Failed", cancelled: "Stopped", timeout: "Timed out" } as const;

function End({ task }: { task: TaskView }) {
  if (!(task.status in ENDS)) return null;
  const how = task.status as keyof typeof ENDS;
  const took = task.startedAt && task.endedAt ? ` after ${duration(Date.parse(task.endedAt) - Date.parse(task.startedAt))}` : "";
  const kept = task.partial?.text ? " What was said until then is kept." : how === "cancelled" && !task.startedAt ? " It had not begun." : "";
  return (
    <p class={`note end ${how === "cancelled" ? "" : "bad"}`}>
      <strong>{ENDS[how]}</strong>
      {took}
      {task.error?.message ? `: ${sentence(task.error.message)}` : "."}
      {kept}
    </p>
  );
}

function Waiting({ prompt, ahead, busy, onCancel }: { prompt: string; ahead: number; busy: boolean; onCancel: (() => void) | undefined }) {
  const before = ahead + (busy ? 1 : 0);
  return (
    <div class="group" role="group" aria-label={`Waits: ${excerpt(prompt, 40)}`}>
      <p class="message user waiting">{prompt}</p>
      <p class="note beside">
        {before > 0 ? `Waits its turn, ${before} before it` : "Waits its turn"}
        {onCancel && (
          <button type="button" class="plain small" onClick={onCancel} aria-label={`Take back: ${excerpt(prompt, 30)}`}>
            <Cross /> Take back
          </button>
        )}
      </p>
    </div>
  );
}

function Unsent({ pending, connected, onForget }: { pending: Pending; connected: boolean; onForget: (() => void) | undefined }) {
  return (
    <div class="group" role="group" aria-label={`Not sent yet: ${excerpt(pending.prompt, 40)}`}>
      <p class="message user waiting">{pending.prompt}</p>
      {pending.refused === undefined ? (
        <p class="note beside">{connected ? "On its way to the hub" : "Not sent yet; it goes out when the connection is back"}</p>
      ) : (
        <p class="note bad beside" role="alert">
          Not taken: {pending.refused}
          {onForget && (
            <button type="button" class="plain small" onClick={onForget}>
              <Cross /> Back into the box
            </button>
          )}
        </p>
      )}
    </div>
  );
}
