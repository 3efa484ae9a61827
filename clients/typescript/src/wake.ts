// When a computer has slept, a page was hidden, or the network has changed, timers and sockets know nothing of it. Something here does.

/** How often to look at the clock, and what more than that is sleep. */
const LOOK_MS = 2_000;
const SLEPT_MS = 5_000;

/** What a page tells, and when it should put away what it has. Both may be called often. */
export interface Wakefulness {
  /** The world may have changed: see whether the connection still holds. */
  woke(): void;
  /** The page may be gone at any moment. */
  hides(): void;
}

/** Watches until the returned function is called. */
export function watch({ woke, hides }: Wakefulness): () => void {
  const endings = [watchClock(woke)];
  const { addEventListener, document } = globalThis as Partial<typeof globalThis>;
  // A page, or a worker; Node has neither.
  if (typeof addEventListener === "function") {
    for (const event of ["online", "offline", "pageshow"]) endings.push(listen(globalThis, event, woke));
    endings.push(listen(globalThis, "pagehide", hides));
  }
  if (typeof document === "object") {
    const turned = () => (document.visibilityState === "hidden" ? hides() : woke());
    endings.push(listen(document, "visibilitychange", turned), listen(document, "resume", woke));
  }
  return () => endings.forEach((end) => end());
}

function listen(target: Pick<EventTarget, "addEventListener" | "removeEventListener">, event: string, listener: () => void): () => void {
  target.addEventListener(event, listener);
  return () => target.removeEventListener(event, listener);
}

function watchClock(woke: () => void): () => void {
  let seen = Date.now();
  const timer = setInterval(() => {
    const now = Date.now();
    const gap = now - seen;
    seen = now;
    if (gap > LOOK_MS + SLEPT_MS) woke();
  }, LOOK_MS);
  // A program is not kept alive by somebody who looks at the clock.
  (timer as { unref?: () => void }).unref?.();
  return () => clearInterval(timer);
}
