import { expect, test } from "vitest";
import type { Hub } from "../src/client";
import { linkOf } from "../src/parts/state";

const hub = (state: Hub["state"], closed?: Hub["closed"]) => ({ state, closed }) as Hub;
const NOW = 1_000_000;

test("every state has words, and only live says that all is well", () => {
  const states = (["connecting", "replaying", "live", "stale", "closed"] as const).map((state) => linkOf(hub(state), NOW));
  expect(states.map(({ label }) => label)).toEqual(["Connecting", "Catching up", "Live", "Reconnecting", "Closed"]);
  expect(states.map(({ explain }) => explain === undefined)).toEqual([false, false, true, false, false]);
  expect(linkOf(undefined, NOW)).toMatchObject({ state: "closed", label: "No token" });
});

test("a lost connection says why where the hub said so, and when it is tried again", () => {
  const lost = (code: number, reason: string, inMs: number) => linkOf(hub("stale", { code, reason, final: false, retryAt: NOW + inMs }), NOW).explain;
  expect(lost(1006, "", 4200)).toBe("The connection is lost, so what you see may be old; next try in 5 s. Tasks go on in the hub meanwhile.");
  expect(lost(1012, "Service restart", 0)).toBe("The connection is lost (Service restart 1012), so what you see may be old. Tasks go on in the hub meanwhile.");
});

test("what is over says why", () => {
  expect(linkOf(hub("closed", { code: 4003, reason: "Forbidden", final: true }), NOW).explain).toBe("The hub closed the connection for good: Forbidden (4003).");
});
