import { beforeEach, expect, test, vi } from "vitest";

/** What is asked of the connection, in order. */
let asked: string[] = [];
let minted = 0;
let hub: ReturnType<typeof fakeHub>;

function fakeHub() {
  const listeners: (() => void)[] = [];
  const open = (sessionId: string) => {
    asked.push(`open ${sessionId}`);
    const nothing = () => () => {};
    return { id: sessionId, state: "live", onEvent: nothing, onAttached: nothing, onChange: nothing, detach: () => void asked.push(`detach ${sessionId}`) };
  };
  return {
    closed: undefined as { code: number; final: boolean } | undefined,
    onChange: (listener: () => void) => void listeners.push(listener),
    onProblem: () => {},
    open,
    create: ({ sessionId }: { sessionId: string }) => open(sessionId),
    close: () => {},
    tell: () => listeners.forEach((listener) => listener()),
  };
}

vi.mock("../src/client", () => ({ connect: () => (hub = fakeHub()) }));
vi.mock("../src/api", () => ({ session: async () => ({ cursor: "e1.1", name: "n" }), updateSession: async () => {} }));
vi.mock("../src/identity", () => ({
  getToken: async () => "token",
  identity: () => ({ phase: "known", minted: false }),
  replaceToken: async () => ((minted += 1), false),
}));
vi.mock("../src/parts/toast", () => ({ toast: () => {} }));

let live: typeof import("../src/live");

beforeEach(async () => {
  vi.resetModules();
  vi.stubGlobal("location", { origin: "http://hub" });
  asked = [];
  minted = 0;
  live = await import("../src/live");
});

test("the session not looked at for the longest is left before another one is followed", async () => {
  for (const id of ["a", "b", "c", "d"]) await live.follow(id);
  await live.follow("a");
  asked = [];
  await live.follow("e");
  live.create({ sessionId: "f" });
  expect(asked).toEqual(["detach b", "open e", "detach c", "open f"]);
});

test("a token that is refused is asked for once, however many sessions are left because of it", async () => {
  live.theHub();
  hub.closed = { code: 4001, final: true };
  for (let session = 0; session < 3; session += 1) hub.tell();
  await Promise.resolve();
  expect(minted).toBe(1);
});
