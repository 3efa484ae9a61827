// One session, live: the conversation, the box, and beside it what the tasks did.
import { useEffect, useRef, useState } from "preact/hooks";
import { complaint, deleteSession, updateSession, type Capabilities } from "../api";
import { HubError, type Hub, type PendingInput } from "../client";
import type { Conversation, TaskView } from "agent-hub-client/conversation";
import { HubRefusal } from "../identity";
import { follow, startAgain, useFollowed, type Followed, type Pending } from "../live";
import { Announcer } from "../parts/announcer";
import { Composer, type WhenBusy } from "../parts/composer";
import { ConversationView } from "../parts/conversation";
import { Dialog } from "../parts/dialog";
import { EventList } from "../parts/events";
import * as Icon from "../parts/icons";
import { InputCard } from "../parts/input-card";
import { copyLink, linkTo } from "../parts/share";
import { nameOf } from "../parts/sidebar";
import type { Link } from "../parts/state";
import { Suggestions } from "../parts/suggestions";
import { Timeline } from "../parts/timeline";
import { toast } from "../parts/toast";
import { go, hashOf } from "../route";
import { isTyping, useKeys } from "../keys";
import { moment } from "../words";

type Panel = "timeline" | "events" | "about";

/** Room for the panel beside the conversation; the style sheet has the same number. */
const WIDE = "(min-width: 70rem)";

// What was typed and not sent, by session, so that a look elsewhere does not lose it.
const drafts = new Map<string, string>();

interface Props {
  id: string;
  hub: Hub;
  link: Link;
  able: Capabilities | undefined;
}

export function SessionPage({ id, hub, link, able }: Props) {
  const [followed, setFollowed] = useState<Followed>();
  const [missing, setMissing] = useState<unknown>();
  const [attempt, setAttempt] = useState(0);

  useEffect(() => {
    let gone = false;
    setMissing(undefined);
    follow(id).then(
      (one) => !gone && setFollowed(one),
      (error: unknown) => !gone && setMissing(error),
    );
    return () => void (gone = true);
  }, [id, hub, attempt]);
  // The hub did not answer: it is asked again as soon as there is a connection.
  useEffect(() => {
    if (missing !== undefined && !(missing instanceof HubRefusal) && link.state === "live") setAttempt((n) => n + 1);
  }, [link.state]);

  if (missing !== undefined) return <Missing error={missing} onRetry={() => setAttempt((n) => n + 1)} />;
  if (!followed || followed.session.id !== id) return <p class="page dim">Opening…</p>;
  return <Open key={id} followed={followed} hub={hub} link={link} able={able} />;
}

function Missing({ error, onRetry }: { error: unknown; onRetry(): void }) {
  const refused = error instanceof HubRefusal;
  const [title, text] =
    refused && error.status === 404
      ? ["There is no such session", "It was never made here, or it was deleted."]
      : refused && error.status === 403
        ? ["This session is not yours", "A session is shown to its owner only. If the link was sent to you: links open a session for the user who made it, nobody else."]
        : ["The session cannot be opened now", complaint(error)];
  return (
    <div class="page">
      <div class="notice">
        <strong>{title}</strong>
        <p>{text}</p>
        <div class="actions">
          {!(refused && error.status < 500) && (
            <button type="button" class="primary" onClick={onRetry}>
              Try again
            </button>
          )}
          <a class="button" href={hashOf({ at: "home" })}>
            Begin another
          </a>
        </div>
      </div>
    </div>
  );
}

function Open({ followed, hub, link, able }: { followed: Followed; hub: Hub; link: Link; able: Capabilities | undefined }) {
  useFollowed(followed);
  const { session } = followed;
  const { conversation } = session;
  const [panel, setPanel] = useState<Panel | undefined>(() => (matchMedia(WIDE).matches ? "timeline" : undefined));
  const [shownTask, setShownTask] = useState<string>();
  const [text, setTextNow] = useState(drafts.get(session.id) ?? "");
  const box = useRef<HTMLTextAreaElement>(null);
  const setText = (next: string) => {
    drafts.set(session.id, next);
    setTextNow(next);
  };
  useEffect(() => {
    if (!isTyping(document.activeElement)) box.current?.focus();
  }, []);

  const current = conversation.tasks.find(isAtWork);
  const stop = () => {
    if (!current || current.cancelRequested) return;
    session
      .task(current.id)
      .cancel("Stopped in the console")
      .catch((error: unknown) => !(error instanceof HubError && error.code === "already_terminal") && toast(complaint(error), "bad"));
  };
  const toggle = (which: Panel) => setPanel((now) => (now === which ? undefined : which));
  useKeys({ Escape: stop, "/": () => box.current?.focus(), t: () => toggle("timeline"), e: () => toggle("events"), i: () => toggle("about") });

  const send = (prompt: string, when: WhenBusy) => {
    setText("");
    if (current && (when === "now" || when === "next_step")) return void steer(followed, current, prompt, when, () => setText(prompt));
    try {
      followed.submit(prompt, when === "interrupt" ? { onBusy: "interrupt" } : {});
    } catch (error) {
      setText(prompt);
      toast(complaint(error), "bad");
    }
  };
  const forget = (pending: Pending) => {
    followed.forget(pending.taskId);
    setText(pending.prompt);
    box.current?.focus();
  };
  const over = conversation.ended !== undefined || session.state === "closed";
  return (
    <div class={`session${panel ? " with-panel" : ""}`}>
      <SessionHead followed={followed} conversation={conversation} hub={hub} panel={panel} onToggle={toggle} />
      <div class="session-main">
        <ConversationView
          conversation={conversation}
          pending={followed.pending}
          connected={link.state === "live" || link.state === "replaying"}
          inputs={(task) => session.inputs.filter((input: PendingInput) => input.taskId === task.id).map((input: PendingInput) => <InputCard key={input.requestId} input={input} />)}
          empty={session.state === "live" && <Empty demo={able?.models.includes("demo") ?? false} onPick={(prompt) => (setText(prompt), box.current?.focus())} />}
          onShowTask={(taskId) => (setShownTask(taskId), setPanel("timeline"))}
          onCancel={(taskId) => void session.task(taskId).cancel("Taken back").catch((error: unknown) => toast(complaint(error), "bad"))}
          onForget={forget}
        />
        {session.error && !conversation.ended && link.state !== "closed" && (
          <p class="link-notice closed" role="alert">
            The hub does not show this session any more: {session.error.message}. What stands here is from before.
          </p>
        )}
        {link.explain && <LinkNotice link={link} hub={hub} />}
        <Composer
          busy={current !== undefined}
          steerable={current?.status === "running" && !current.cancelRequested}
          stopping={current?.cancelRequested ?? false}
          disabled={conversation.ended ? "The session takes no more" : link.state === "closed" ? "Not connected" : over ? "Not followed any more" : undefined}
          placeholder={link.state === "live" || link.state === "replaying" ? "Ask something" : "Sent when the connection is back"}
          limit={able?.maxPromptLength ?? 10_000}
          box={box}
          text={text}
          onText={setText}
          onSend={send}
          onStop={stop}
        />
      </div>
      {panel && (
        <aside class="panel" aria-label={PANELS[panel]}>
          {panel === "timeline" && <Timeline tasks={conversation.tasks} shown={shownTask} now={session.state === "live" ? undefined : Date.parse(conversation.session.updatedAt)} />}
          {panel === "events" && <Log followed={followed} />}
          {panel === "about" && <About followed={followed} conversation={conversation} />}
        </aside>
      )}
      <Announcer conversation={conversation} live={session.state === "live"} />
    </div>
  );
}

const PANELS: Record<Panel, string> = { timeline: "Timeline", events: "Events", about: "About" };
const isAtWork = ({ status }: TaskView): boolean => status === "running" || status === "suspended";

async function steer(followed: Followed, task: TaskView, input: string, when: "now" | "next_step", giveBack: () => void): Promise<void> {
  try {
    const receipt = await followed.session.task(task.id).steer(input, { when });
    if (receipt.outcome === "rejected") toast(`Came too late to steer: ${receipt.reason}. Your words were: ${receipt.input}`, "bad");
  } catch (error) {
    giveBack();
    toast(complaint(error), "bad");
  }
}

function LinkNotice({ link, hub }: { link: Link; hub: Hub }) {
  return (
    <div class={`link-notice ${link.state}`} id="link-notice">
      <p>{link.explain}</p>
      {(link.state === "stale" || link.state === "connecting") && (
        <button type="button" class="small" onClick={() => hub.reconnect()}>
          Try now
        </button>
      )}
      {link.state === "closed" && (
        <button type="button" class="small" onClick={startAgain}>
          Connect again
        </button>
      )}
    </div>
  );
}

function Empty({ demo, onPick }: { demo: boolean; onPick(prompt: string): void }) {
  return (
    <div class="empty">
      <p>Nothing said yet. What comes back arrives token by token, here and in every other tab on this session.</p>
      {demo && <Suggestions onPick={onPick} />}
    </div>
  );
}

interface HeadProps {
  followed: Followed;
  conversation: Conversation;
  hub: Hub;
  panel: Panel | undefined;
  onToggle(panel: Panel): void;
}

function SessionHead({ followed, conversation, hub, panel, onToggle }: HeadProps) {
  const { id } = followed.session;
  const [shown, setShown] = useState(false);
  const share = async () => setShown(!(await copyLink({ at: "session", id }, hub.welcome?.user)));
  return (
    <header class="session-head">
      <Name id={id} name={conversation.session.name} shown={nameOf(conversation.session)} />
      <div class="session-tools">
        <a class="button small" href={hashOf({ at: "replay", id })} title="Go through its log">
          <Icon.Replay /> <span>Replay</span>
        </a>
        <button type="button" class="small" onClick={share} title="For yourself: nobody else can open it">
          <Icon.Link /> <span>Copy link</span>
        </button>
        <div class="toggles" role="group" aria-label="Beside the conversation">
          {(Object.keys(PANELS) as Panel[]).map((which) => (
            <button key={which} type="button" class="small" aria-pressed={panel === which} onClick={() => onToggle(which)}>
              {PANELS[which]}
            </button>
          ))}
        </div>
      </div>
      {shown && (
        <Dialog title="Link to this session" onClose={() => setShown(false)}>
          <p>This browser does not let the page copy. Copy it from here; it opens the session for you, nobody else can read it.</p>
          <input class="wide" readOnly aria-label="Link" value={linkTo({ at: "session", id })} onFocus={(event) => event.currentTarget.select()} />
        </Dialog>
      )}
    </header>
  );
}

function Name({ id, name, shown }: { id: string; name: string | undefined; shown: string }) {
  const [editing, setEditing] = useState<string>();
  const save = () => {
    const next = editing?.trim();
    setEditing(undefined);
    if (next === undefined || next === "" || next === name) return;
    updateSession(id, { name: next.slice(0, 200) }).catch((error: unknown) => toast(complaint(error), "bad"));
  };
  if (editing === undefined) {
    return (
      <h1 class="session-title">
        <button type="button" class="plain" title="Rename" onClick={() => setEditing(name ?? "")}>
          {shown}
        </button>
      </h1>
    );
  }
  return (
    <form
      class="session-title"
      onSubmit={(event) => {
        event.preventDefault();
        save();
      }}
    >
      <input
        aria-label="Name of the session"
        maxLength={200}
        autocomplete="off"
        value={editing}
        ref={(it) => {
          if (it && document.activeElement !== it) it.focus();
        }}
        onInput={(event) => setEditing(event.currentTarget.value)}
        onBlur={save}
        onKeyDown={(event) => {
          if (event.key !== "Escape") return;
          event.stopPropagation();
          setEditing(undefined);
        }}
      />
    </form>
  );
}

function Log({ followed }: { followed: Followed }) {
  const [picked, setPicked] = useState<number>();
  const index = picked === undefined ? undefined : followed.events.findIndex(({ seq }) => seq === picked);
  return (
    <EventList
      events={followed.events}
      before={(followed.events[0]?.seq ?? followed.session.conversation.head + 1) - 1}
      current={index === -1 ? undefined : index}
      follow
      onPick={(at) => setPicked(followed.events[at]?.seq)}
    />
  );
}

function About({ followed, conversation }: { followed: Followed; conversation: Conversation }) {
  const { session } = conversation;
  const { transport } = followed.session.hub;
  const [tags, setTags] = useState(session.tags.join(", "));
  const [sure, setSure] = useState(false);
  useEffect(() => setTags(session.tags.join(", ")), [session.tags.join()]);
  const fail = (error: unknown) => toast(complaint(error), "bad");
  const saveTags = () => {
    const next = [...new Set(tags.split(",").map((tag) => tag.trim()).filter(Boolean))];
    if (next.join() !== session.tags.join()) updateSession(session.id, { tags: next }).catch(fail);
  };
  const usage = conversation.tasks.reduce((sum, task) => [sum[0] + task.usage.inputTokens, sum[1] + task.usage.outputTokens] as [number, number], [0, 0] as [number, number]);
  return (
    <div class="about" tabIndex={0} role="group" aria-label="About this session">
      <dl>
        <dt>Session</dt>
        <dd><code>{session.id}</code></dd>
        <dt>Cursor</dt>
        <dd><code>{followed.session.cursor ?? "not known yet"}</code></dd>
        <dt>Connection</dt>
        <dd>{transport === "sse" ? "Server-Sent Events" : transport === "websocket" ? "WebSocket" : "none at the moment"}</dd>
        <dt>Agent</dt>
        <dd>{session.agent}{session.model && <> · {session.model}</>}</dd>
        <dt>Tools</dt>
        <dd>{session.tools.join(", ") || "none"}</dd>
        <dt>Begun</dt>
        <dd>{session.createdAt && moment(session.createdAt)}</dd>
        <dt>Last changed</dt>
        <dd>{session.updatedAt && moment(session.updatedAt)}</dd>
        <dt>Tasks</dt>
        <dd>{session.taskCount}</dd>
        <dt>Tokens</dt>
        <dd>{usage[0]} in, {usage[1]} out</dd>
      </dl>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          saveTags();
        }}
      >
        <div class="field">
          <label for="tags">Tags, parted by commas</label>
          <input id="tags" autocomplete="off" value={tags} onInput={(event) => setTags(event.currentTarget.value)} onBlur={saveTags} />
        </div>
      </form>
      <div class="actions">
        {!conversation.ended && (
          <button type="button" onClick={() => void followed.session.end().catch(fail)} title="Cancels its tasks; it takes no more, and stays readable">
            End the session
          </button>
        )}
        <button type="button" class="danger" onClick={() => setSure(true)}>
          Delete it
        </button>
      </div>
      {sure && (
        <Dialog title="Delete this session?" onClose={() => setSure(false)}>
          <p>Its tasks are cancelled and its log is erased, for everybody who reads it. This cannot be undone.</p>
          <div class="actions">
            <button type="button" class="danger" onClick={() => deleteSession(session.id).then(() => go({ at: "home" }), fail)}>
              Delete it
            </button>
            <button type="button" onClick={() => setSure(false)}>
              Keep it
            </button>
          </div>
        </Dialog>
      )}
    </div>
  );
}
