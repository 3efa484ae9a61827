// The hub and its fake vendor as programs, for other people's clients to talk to.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const hubProgram = process.env.AGENT_HUB_BIN ?? path.join(root, "target/debug/agent-hub");
const loadProgram = path.join(path.dirname(hubProgram), "agent-hub-load");

/** Starts a program and waits for the line that says where it answers. Returns that, and how to end it. */
export async function started(program, args, options, find) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"], ...options });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const stop = async () => {
    child.kill("SIGKILL");
    await ended;
  };
  for await (const line of createInterface({ input: child.stdout })) {
    const found = find(line);
    if (found) {
      child.stdout.resume();
      return { url: found, stop };
    }
  }
  throw new Error(`${program} ended before it answered`);
}

/** The fake vendor; its URL ends in /v1. */
export function vendor(args = []) {
  return started(loadProgram, ["vendor", "--port", "0", ...args], {}, (line) => (line.startsWith("http") ? line.trim() : undefined));
}

/** A hub in development mode. */
export async function hub(environment = {}) {
  const directory = mkdtempSync(path.join(tmpdir(), "agent-hub-"));
  const env = { PATH: process.env.PATH, PORT: "0", AGENT_HUB_LIMITS: "off", AGENT_HUB_LOG: "warn", AGENT_HUB_PROVIDER__DEMO_PACE: "1 ms", ...environment };
  const found = await started(hubProgram, [], { cwd: directory, env }, (line) => line.match(/(http:\/\/[^/\s]+)\/\s*$/)?.[1]);
  return {
    url: found.url,
    stop: async () => {
      await found.stop();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
