// The newest sessions, to go from one to another.
import { useEffect, useState } from "preact/hooks";
import { complaint, sessions, type SessionSummary } from "../api";
import { onListChange } from "../live";
import { hashOf } from "../route";
import { moment } from "../words";
import { Plus } from "./icons";

const SHOWN = 30;
/** Several changes at once are one look, and other tabs and programs make sessions too. */
const LOOK_AFTER_MS = 400;
const LOOK_EVERY_MS = 20_000;

export function useNewest(known: boolean): { list: SessionSummary[] | undefined; trouble: string | undefined } {
  const [list, setList] = useState<SessionSummary[]>();
  const [trouble, setTrouble] = useState<string>();
  useEffect(() => {
    if (!known) return;
    let gone = false;
    let soon: ReturnType<typeof setTimeout> | undefined;
    const look = async () => {
      clearTimeout(soon);
      soon = undefined;
      if (document.hidden) return;
      try {
        const page = await sessions(undefined, SHOWN);
        if (gone) return;
        setList(page.sessions);
        setTrouble(undefined);
      } catch (error) {
        if (!gone) setTrouble(complaint(error));
      }
    };
    const later = () => (soon ??= setTimeout(look, LOOK_AFTER_MS));
    void look();
    const timer = setInterval(look, LOOK_EVERY_MS);
    const unlisten = onListChange(later);
    document.addEventListener("visibilitychange", later);
    addEventListener("online", later);
    return () => {
      gone = true;
      clearTimeout(soon);
      clearInterval(timer);
      unlisten();
      document.removeEventListener("visibilitychange", later);
      removeEventListener("online", later);
    };
  }, [known]);
  return { list, trouble };
}

export function nameOf(session: { name?: string | undefined; createdAt?: string }): string {
  return session.name || (session.createdAt ? `Session of ${moment(session.createdAt)}` : "New session");
}

interface Props {
  list: SessionSummary[] | undefined;
  trouble: string | undefined;
  current: string | undefined;
  onPick(): void;
}

export function Sidebar({ list, trouble, current, onPick }: Props) {
  return (
    <>
      <a class="button primary wide" href={hashOf({ at: "home" })} onClick={onPick}>
        <Plus /> New session
      </a>
      <h2 class="side-head">
        Recent <a href={hashOf({ at: "sessions" })} onClick={onPick}>All sessions</a>
      </h2>
      {trouble && !list && <p class="dim pad">{trouble}</p>}
      {list?.length === 0 && <p class="dim pad">None yet.</p>}
      <ul class="sessions" id="sessions">
        {list?.map((one) => (
          <li key={one.id}>
            <a href={hashOf({ at: "session", id: one.id })} aria-current={one.id === current ? "page" : undefined} onClick={onPick}>
              <span class="session-name">
                {one.unfinishedTasks > 0 && <i class="working" role="img" aria-label="working" />}
                <span>{nameOf(one)}</span>
              </span>
              <small>
                {one.agent} · {moment(one.updatedAt)}
                {one.status === "ended" && " · ended"}
              </small>
            </a>
          </li>
        ))}
      </ul>
    </>
  );
}
