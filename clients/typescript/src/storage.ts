// Sessions kept between runs, so that a reload goes on where it was.
import type { CursorStorage, StoredSession } from "./api.js";
import type { Conversation } from "./conversation.js";
import { parseCursor } from "./position.js";

/** The part of `localStorage` and `sessionStorage` that is used. */
export interface KeyValueStorage {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

/** Sessions kept; the ones not looked at for the longest are forgotten first. */
const SESSIONS = 20;
/** Characters of one session; of a longer one the newest messages are kept, as in a snapshot. */
const CHARACTERS = 1024 * 1024;

/**
 * Keeps sessions in a browser's storage, or anything like it. Tabs may share one: a cursor stands in one entry with the conversation
 * it belongs to, so whichever tab wrote it, what is read fits together; an older position never replaces a newer one.
 *
 * @param name parts what is kept from that of others. Where several users share a browser, put the user into it.
 */
export function storedCursors(storage: KeyValueStorage, name = "agent-hub"): CursorStorage {
  const key = (sessionId: string) => `${name}:session:${sessionId}`;
  const index = `${name}:sessions`;
  const listed = (): string[] => {
    const ids: unknown = parsed(storage.getItem(index));
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string") : [];
  };
  const list = (ids: string[]) => {
    for (const old of ids.slice(SESSIONS)) storage.removeItem(key(old));
    storage.setItem(index, JSON.stringify(ids.slice(0, SESSIONS)));
  };
  return {
    load(sessionId) {
      return restored(sessionId, storage.getItem(key(sessionId)));
    },
    save(sessionId, stored) {
      if (isOlder(stored.cursor, storage.getItem(key(sessionId)))) return;
      try {
        const ids = listed();
        if (ids[0] !== sessionId) list([sessionId, ...ids.filter((id) => id !== sessionId)]);
        storage.setItem(key(sessionId), entry(stored));
      } catch (cause) {
        // No room. An entry that is not replaced would only be old, but its room may be what another one needs.
        storage.removeItem(key(sessionId));
        throw cause;
      }
    },
    remove(sessionId) {
      storage.removeItem(key(sessionId));
      list(listed().filter((id) => id !== sessionId));
    },
  };
}

/** The cursor stands before the rest, so that it can be compared without reading all of it. */
function entry({ cursor, conversation }: StoredSession): string {
  // Most of the size is in the messages; what the rest makes too much is halved away.
  let chars = 0;
  const fitting = conversation.messages.findLastIndex(({ text }) => (chars += text.length) > CHARACTERS) + 1;
  let kept = without(conversation, Math.min(fitting, conversation.messages.length - 1));
  let text = JSON.stringify(kept);
  while (text.length > CHARACTERS * 1.5 && kept.messages.length > 1) {
    kept = without(kept, Math.ceil(kept.messages.length / 2));
    text = JSON.stringify(kept);
  }
  return `1 ${cursor}\n${text}`;
}

function without(conversation: Conversation, oldest: number): Conversation {
  if (oldest <= 0) return conversation;
  const { messages, earlierMessages } = conversation;
  return { ...conversation, messages: messages.slice(oldest), earlierMessages: earlierMessages + oldest };
}

function headOf(text: string | null): { epoch: string; seq: number } | undefined {
  const [version, cursor] = text?.slice(0, text.indexOf("\n")).split(" ") ?? [];
  return version === "1" && cursor !== undefined ? parseCursor(cursor) : undefined;
}

function isOlder(cursor: string, text: string | null): boolean {
  const [mine, there] = [parseCursor(cursor), headOf(text)];
  return mine !== undefined && there !== undefined && mine.epoch === there.epoch && mine.seq <= there.seq;
}

/** What was kept, if it is whole and of this session; otherwise it is as if nothing were. */
function restored(sessionId: string, text: string | null): StoredSession | undefined {
  const at = headOf(text);
  if (text === null || !at) return undefined;
  const conversation = parsed(text.slice(text.indexOf("\n") + 1)) as Conversation | undefined;
  const fits = conversation?.sessionId === sessionId && conversation.epoch === at.epoch && conversation.head === at.seq;
  const lists = [conversation?.messages, conversation?.tasks, conversation?.queue, conversation?.pendingInputs];
  return conversation && fits && lists.every(Array.isArray) ? { cursor: `${at.epoch}.${at.seq}`, conversation } : undefined;
}

function parsed(text: string | null): unknown {
  try {
    return text === null ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
