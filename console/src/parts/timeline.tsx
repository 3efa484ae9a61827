// What the tasks of a session did and when: steps, tool calls, steering, as bars on the time each task took.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { isOver, type SteerView, type StepView, type TaskView, type ToolCallView } from "agent-hub-client/conversation";
import { duration, excerpt, moment, pretty } from "../words";

interface Props {
  tasks: readonly TaskView[];
  /** Scrolled to and opened. */
  shown?: string | undefined;
  /** The present of the timeline where it is not now: the moment a replay stands at, or the last one that is known of. */
  now?: number | undefined;
}

export function Timeline({ tasks, shown, now }: Props) {
  const clock = useClock(now === undefined && tasks.some(isAtWork));
  // The work of a sub-agent stands in the task it belongs to.
  const own = tasks.filter((task) => task.parentTaskId === undefined || !tasks.some(({ id }) => id === task.parentTaskId));
  // Opened by itself: what is at work, otherwise the newest.
  const foremost = own.findLast(isAtWork) ?? own.at(-1);
  if (!tasks.length) return <p class="dim pad">No task yet. Each one shows its steps here: model calls, tool calls, steering, and how long they took.</p>;
  return (
    <div class="timeline" tabIndex={0} role="group" aria-label="Timeline">
      {own.reverse().map((task) => (
        <TaskCard key={task.id} task={task} all={tasks} now={now ?? clock} open={shown === task.id || task === foremost} shown={shown === task.id} />
      ))}
    </div>
  );
}

const isAtWork = ({ status }: TaskView): boolean => status === "running" || status === "suspended";

/** Bars of what is still going on grow. */
function useClock(running: boolean): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [running]);
  return running ? now : Date.now();
}

const STATES: Record<TaskView["status"], string> = {
  queued: "queued",
  running: "running",
  suspended: "suspended",
  completed: "completed",
  failed: "failed",
  cancelled: "stopped",
  timeout: "timed out",
};

interface CardProps {
  task: TaskView;
  /** All tasks of the session, among them those of its sub-agents. */
  all: readonly TaskView[];
  now: number;
  open: boolean;
  shown?: boolean;
}

function TaskCard({ task, all, now, open, shown = false }: CardProps) {
  const place = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    if (!shown || !place.current) return;
    place.current.open = true;
    place.current.scrollIntoView({ block: "nearest" });
  }, [shown]);
  const from = Date.parse(task.startedAt ?? task.createdAt);
  const to = task.endedAt ? Date.parse(task.endedAt) : Math.max(now, from + 1);
  const calls = new Map(task.toolCalls.map((call) => [call.callId, call]));
  const rows = [...rowsOf(task)];
  const handedOn = all.filter(({ parentTaskId }) => parentTaskId === task.id);
  return (
    <details class="task" ref={place} open={open} data-status={task.status} data-agent={task.agent}>
      <summary>
        <span class="task-name">
          {task.parentTaskId !== undefined && <b class="tag">{task.agent}</b>} {excerpt(task.prompt || task.workflow || "(no prompt)", 60)}
        </span>
        <span class="task-about">
          <b class={"tag " + task.status}>{STATES[task.status]}</b>
          <span>{task.startedAt ? duration(to - from) : "has not begun"}</span>
          {task.usage.outputTokens > 0 && <span>{task.usage.inputTokens} → {task.usage.outputTokens} tokens</span>}
          <span>{moment(task.createdAt)}</span>
        </span>
      </summary>
      {rows.length === 0 && isOver(task.status) && task.stepsCompleted > 0 && <p class="dim pad">{task.stepsCompleted} steps, from before what is kept here. The replay has them.</p>}
      <ol>
        {rows.map((row) =>
          row.kind === "step" ? (
            <StepRow key={row.seq} step={row.step} cutAt={cutAt(row.step, task)} call={callOf(row.step, calls)} from={from} to={to} />
          ) : (
            <SteerRow key={row.seq} steer={row.steer} from={from} to={to} />
          ),
        )}
      </ol>
      {handedOn.map((child) => (
        <TaskCard key={child.id} task={child} all={all} now={now} open={open && isAtWork(child)} />
      ))}
      {task.parentTaskId !== undefined && task.text && <p class="note">{excerpt(task.text, 400)}</p>}
      {task.warnings?.map((warning, at) => (
        <p class="note" key={at}>
          {warning.message}
        </p>
      ))}
      {task.status === "suspended" && <p class="note">{waitsFor(task)}</p>}
      {task.error && <p class="note bad">{task.error.code}: {task.error.message}</p>}
    </details>
  );
}

function waitsFor({ suspendedFor, workflow }: TaskView): string {
  if (suspendedFor === "input") return "Waits for a person; that time does not count against its deadline.";
  if (suspendedFor === "sleep") return "Waits for a time.";
  return workflow !== undefined && suspendedFor ? `Suspended: ${suspendedFor}` : "Suspended until somebody resumes it.";
}

type TimelineRow = { kind: "step"; seq: number; step: StepView } | { kind: "steer"; seq: number; steer: SteerView };

function rowsOf(task: TaskView): TimelineRow[] {
  const steps = task.steps.map((step): TimelineRow => ({ kind: "step", seq: step.seq, step }));
  const steers = task.steers.map((steer): TimelineRow => ({ kind: "steer", seq: steer.seq, steer }));
  return [...steps, ...steers].sort((a, b) => a.seq - b.seq);
}

/** A step that called a tool follows the call it carries out; the newest of that tool before it is the one. */
function callOf(step: StepView, calls: Map<string, ToolCallView>): ToolCallView | undefined {
  if (!step.tool || step.tool === "model") return undefined;
  if (step.callId !== undefined) return calls.get(step.callId);
  const same = [...calls.values()].filter((call) => call.tool === step.tool && call.seq < step.seq);
  return same.find((call) => JSON.stringify(call.arguments) === JSON.stringify(step.input)) ?? same.at(-1);
}

/** A step without an end, behind which there are others or the end of the task, was cut short: the hub was stopped in the middle of it. */
function cutAt(step: StepView, task: TaskView): number | undefined {
  if (step.phase !== "started") return undefined;
  // Calls and the steps of a workflow run beside each other: that another one began says nothing of this one.
  if (step.callId !== undefined || task.workflow !== undefined) return task.endedAt === undefined ? undefined : Date.parse(task.endedAt);
  const next = task.steps.find(({ seq }) => seq > step.seq)?.startedAt ?? task.endedAt;
  return next === undefined ? undefined : Date.parse(next);
}

interface StepProps {
  step: StepView;
  cutAt: number | undefined;
  call: ToolCallView | undefined;
  from: number;
  to: number;
}

function StepRow({ step, cutAt, call, from, to }: StepProps) {
  const begins = Date.parse(step.startedAt);
  const ends = step.endedAt ? Date.parse(step.endedAt) : (cutAt ?? to);
  const isModel = step.name === "model";
  const given = step.input ?? call?.arguments;
  const came = step.output ?? call?.output;
  return (
    <Row
      name={isModel ? "Model call" : step.name}
      kind={isModel ? "model" : "tool"}
      phase={cutAt === undefined ? step.phase : "failed"}
      at={begins}
      took={cutAt !== undefined ? "cut short" : step.phase === "started" ? `${duration(ends - begins)} so far` : duration(ends - begins)}
      span={[begins, ends]}
      from={from}
      to={to}
    >
      {given !== undefined && <Value label="Arguments" value={given} />}
      {call !== undefined && call.said && <Value label="Said while it ran" value={call.said} />}
      {came !== undefined && <Value label={step.phase === "failed" ? "Went wrong" : "Result"} value={came} />}
      {call?.error !== undefined && step.output === undefined && <Value label="Went wrong" value={call.error} />}
    </Row>
  );
}

function SteerRow({ steer, from, to }: { steer: SteerView; from: number; to: number }) {
  const at = Date.parse(steer.at);
  const became = steer.status === "applied" ? `taken up before step ${steer.step}` : steer.status === "rejected" ? `came too late: ${steer.reason}` : "waits for the next step";
  return (
    <Row name="Steering" kind="steer" phase={steer.status === "rejected" ? "failed" : "completed"} at={at} took={steer.when === "now" ? "at once" : "next step"} span={[at, at]} from={from} to={to}>
      <Value label={became} value={steer.input} />
    </Row>
  );
}

interface RowProps {
  name: string;
  kind: "model" | "tool" | "steer";
  phase: StepView["phase"];
  at: number;
  took: string;
  span: [number, number];
  from: number;
  to: number;
  children: ComponentChildren;
}

const PHASES = { started: "running", completed: "done", failed: "failed" };

function Row({ name, kind, phase, at, took, span, from, to, children }: RowProps) {
  const whole = Math.max(to - from, 1);
  const share = (time: number) => Math.max(0, Math.min(100, ((time - from) / whole) * 100));
  const [left, right] = [share(span[0]), share(span[1])];
  const inside = Array.isArray(children) ? children.some(Boolean) : Boolean(children);
  const head = (
    <>
      <span class={`dot ${kind} ${phase}`} aria-hidden="true" />
      <span class="row-name">{name}</span>
      <span class="row-took">
        <span class="hidden">{PHASES[phase]}, </span>
        {took}
      </span>
      <span class="bar" aria-hidden="true">
        <i class={`${kind} ${phase}`} style={{ marginLeft: `${Math.min(left, 99)}%`, width: `max(3px, ${right - left}%)` }} />
      </span>
    </>
  );
  return (
    <li class="step" title={`+${duration(at - from)}`}>
      {inside ? (
        <details>
          <summary>{head}</summary>
          {children}
        </details>
      ) : (
        <div class="row-head">{head}</div>
      )}
    </li>
  );
}

function Value({ label, value }: { label: string; value: unknown }) {
  return (
    <div class="value">
      <small>{label}</small>
      <pre tabIndex={0} aria-label={label}>{pretty(value)}</pre>
    </div>
  );
}
