// All sessions of the user, a page at a time, newest first.
import { useEffect, useState } from "preact/hooks";
import { complaint, sessions, type SessionSummary } from "../api";
import * as Icon from "../parts/icons";
import { nameOf } from "../parts/sidebar";
import { hashOf } from "../route";
import { moment, plural } from "../words";

const PAGE = 50;
/** So many are looked through for a word before somebody is asked whether to go on. */
const SEARCHED_AT_ONCE = 500;

export function SessionsPage() {
  const [list, setList] = useState<SessionSummary[]>([]);
  const [next, setNext] = useState<string | null>();
  const [busy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState<string>();
  const [words, setWords] = useState("");

  const more = async (upTo: number) => {
    setBusy(true);
    setTrouble(undefined);
    try {
      let [all, from, read] = [list, next, 0];
      do {
        const page = await sessions(from ?? undefined, read + PAGE < upTo ? 200 : PAGE);
        // One that was made meanwhile shifts nothing: the page token names the last one seen. Known ones are not shown twice all the same.
        const known = new Set(all.map(({ id }) => id));
        all = [...all, ...page.sessions.filter(({ id }) => !known.has(id))];
        from = page.next;
        read += page.sessions.length;
        setList(all);
        setNext(from);
      } while (from && read < upTo);
    } catch (error) {
      setTrouble(complaint(error));
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => void more(PAGE), []);

  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const found = list.filter((one) => {
    const text = [nameOf(one), one.agent, one.status, ...one.tags].join(" ").toLowerCase();
    // An id is meant by its beginning: a single digit is in nearly every one.
    return wanted.every((word) => text.includes(word) || (word.length >= 4 && one.id.startsWith(word)));
  });
  return (
    <div class="page browse">
      <header class="page-head">
        <h1>Sessions</h1>
        <div class="search">
          <label for="search" class="hidden">
            Find by name, tag, agent or id
          </label>
          <Icon.Search />
          <input id="search" type="search" autocomplete="off" placeholder="Name, tag, agent or id" value={words} onInput={(event) => setWords(event.currentTarget.value)} />
        </div>
      </header>
      <p class="dim" role="status">
        {words
          ? `${plural(found.length, "session")} of the ${list.length.toLocaleString("en")} read so far`
          : `${plural(list.length, "session")}${next ? " read so far, newest first" : ", newest first"}`}
        .
      </p>
      {trouble && <p class="note bad" role="alert">{trouble}</p>}
      <ul class="session-table">
        {found.map((one) => (
          <li key={one.id}>
            <a class="session-link" href={hashOf({ at: "session", id: one.id })}>
              <span class="session-name">
                {one.unfinishedTasks > 0 && <i class="working" role="img" aria-label="working" />}
                <span>{nameOf(one)}</span>
              </span>
              <small>
                {one.agent} · {plural(one.taskCount, "task")}
                {one.unfinishedTasks > 0 && `, ${one.unfinishedTasks} unfinished`}
                {one.status === "ended" && " · ended"}
              </small>
            </a>
            <span class="tags">
              {one.tags.map((tag) => (
                <button key={tag} type="button" class="tag" onClick={() => setWords(tag)} aria-label={`Find tag ${tag}`}>
                  {tag}
                </button>
              ))}
            </span>
            <time dateTime={one.updatedAt}>{moment(one.updatedAt)}</time>
            <a class="button small" href={hashOf({ at: "replay", id: one.id })} aria-label={`Replay ${nameOf(one)}`}>
              <Icon.Replay /> <span>Replay</span>
            </a>
          </li>
        ))}
      </ul>
      {!busy && !trouble && list.length === 0 && <p class="empty dim">No session yet.</p>}
      {next && (
        <div class="actions">
          <button type="button" onClick={() => void more(PAGE)} disabled={busy}>
            {busy ? "Reading…" : "Show older ones"}
          </button>
          {words && (
            <button type="button" onClick={() => void more(SEARCHED_AT_ONCE)} disabled={busy}>
              Search {SEARCHED_AT_ONCE} older ones too
            </button>
          )}
        </div>
      )}
    </div>
  );
}
