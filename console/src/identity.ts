// Who the reader is. In development mode the hub gives out a token; otherwise one is pasted. It is kept for this tab only, travels in
// headers only, and stands in no address.

const PLACE = "agent-hub.token";
/** Beside it: whether the hub made it, so that another one can be had without asking. */
const MINTED = "agent-hub.token.minted";
/** A token that holds for less is not good enough to begin with; the hub warns a minute before the end. */
const ENOUGH_MS = 90_000;

export interface Identity {
  phase: "asking" | "known" | "unknown" | "unreachable";
  /** Why it is not known. */
  why?: string;
  /** Whether the hub makes tokens itself: then a refused one is replaced without asking anybody. */
  minted: boolean;
}

export class HubRefusal extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly details?: unknown,
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}

let token = kept(PLACE);
let current: Identity = { phase: token ? "known" : "asking", minted: kept(MINTED) !== undefined };
const listeners = new Set<() => void>();

export const identity = (): Identity => current;

export function onIdentity(listener: () => void): () => void {
  listeners.add(listener);
  return () => void listeners.delete(listener);
}

function become(next: Identity): void {
  current = next;
  for (const listener of listeners) listener();
}

/** A token, asked for where there is none. One that the hub made is replaced before it expires. */
export async function getToken(): Promise<string> {
  if (!token) return mint();
  if (!current.minted || expiresIn(token) > ENOUGH_MS) return token;
  // Without an answer the old one is still good for a moment.
  return mint().catch(() => token!);
}

/** What the token says of its end; for deciding when to ask for another one, not for trusting it. */
function expiresIn(jwt: string): number {
  try {
    const payload = atob((jwt.split(".")[1] ?? "").replace(/-/g, "+").replace(/_/g, "/"));
    const { exp } = JSON.parse(payload) as { exp?: number };
    return exp === undefined ? Infinity : exp * 1000 - Date.now();
  } catch {
    return Infinity;
  }
}

const REFUSED = "The hub does not accept the token: it is wrong, has expired or was revoked.";

/** The token did not hold: another one where the hub gives them out, otherwise somebody has to paste one. */
export async function replaceToken(): Promise<boolean> {
  const wasMinted = current.minted;
  forgetToken();
  if (wasMinted || current.phase !== "unknown") {
    try {
      await mint();
      return true;
    } catch {
      // `mint` has said what is the case.
    }
  }
  if (current.phase === "unknown") become({ ...current, why: REFUSED });
  return false;
}

export function pasteToken(text: string): void {
  know(text.trim().replace(/^Bearer\s+/i, ""), false);
}

function know(jwt: string, minted: boolean): void {
  token = jwt;
  try {
    sessionStorage.setItem(PLACE, jwt);
    if (minted) sessionStorage.setItem(MINTED, "yes");
    else sessionStorage.removeItem(MINTED);
  } catch {
    // Without storage it lives as long as the page.
  }
  become({ phase: "known", minted });
}

export function forgetToken(): void {
  token = undefined;
  try {
    sessionStorage.removeItem(PLACE);
    sessionStorage.removeItem(MINTED);
  } catch {
    // See above.
  }
}

let minting: Promise<string> | undefined;

function mint(): Promise<string> {
  minting ??= askForToken().finally(() => (minting = undefined));
  return minting;
}

async function askForToken(): Promise<string> {
  let answer: Response;
  try {
    answer = await fetch("/auth/token", { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" });
  } catch (error) {
    if (current.phase !== "known") become({ phase: "unreachable", why: "The hub does not answer.", minted: false });
    throw error;
  }
  if (answer.ok) {
    const { token: made } = (await answer.json()) as { token: string };
    know(made, true);
    return made;
  }
  if (answer.status >= 500 || answer.status === 429) {
    if (current.phase !== "known") become({ phase: "unreachable", why: "The hub cannot give a token at the moment.", minted: false });
  } else {
    become({ phase: "unknown", why: "This hub gives out no tokens.", minted: false });
  }
  throw new HubRefusal(answer.status, "unauthorized", "This hub gives out no tokens.");
}

function kept(place: string): string | undefined {
  try {
    return sessionStorage.getItem(place) ?? undefined;
  } catch {
    return undefined;
  }
}
