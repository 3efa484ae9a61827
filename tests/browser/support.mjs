// A hub of its own and a browser for each test file. AGENT_HUB_BIN names the program (otherwise the newest of target/), CHROMIUM the browser.
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export const ROOT = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const SCREENSHOTS = path.join(ROOT, "target/screenshots");
const BROWSERS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export const readme = () => readFileSync(path.join(ROOT, "README.md"), "utf8");

/** The part of the README under a heading. */
export function section(heading) {
  const [, rest] = readme().split(`\n## ${heading}\n`);
  if (!rest) throw new Error(`README.md has no section ${heading}`);
  return rest.split("\n## ")[0];
}

/** The code blocks of a text, in order. */
export const blocks = (text) => [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)].map(([, language, code]) => ({ language, code }));

function program() {
  if (process.env.AGENT_HUB_BIN) return path.resolve(process.env.AGENT_HUB_BIN);
  const built = ["debug", "release"].map((kind) => path.join(ROOT, "target", kind, "agent-hub")).filter(existsSync);
  if (!built.length) throw new Error("build the hub first, or name it in AGENT_HUB_BIN");
  return built.sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs)[0];
}

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });

/** A hub in a directory of its own: development mode, SQLite, the demo model. */
export class Hub {
  static async start(environment = {}) {
    const hub = new Hub();
    Object.assign(hub, { directory: mkdtempSync(path.join(tmpdir(), "agent-hub-")), port: await freePort(), environment });
    hub.url = `http://127.0.0.1:${hub.port}`;
    await hub.run();
    return hub;
  }

  async run() {
    const env = { PATH: process.env.PATH, PORT: String(this.port), ...this.environment };
    this.process = spawn(program(), { cwd: this.directory, env, stdio: ["ignore", "ignore", "pipe"] });
    this.exited = new Promise((resolve) => this.process.once("exit", resolve));
    this.said = "";
    this.process.stderr.on("data", (text) => (this.said = (this.said + text).slice(-20_000)));
    const deadline = Date.now() + 30_000;
    while (!(await fetch(this.url + "/ready").then((answer) => answer.ok, () => false))) {
      if (this.process.exitCode !== null || Date.now() > deadline) throw new Error("the hub does not start:\n" + this.said);
      await sleep(50);
    }
  }

  /** As a crash does it. */
  async kill() {
    this.process.kill("SIGKILL");
    await this.exited;
  }

  async stop() {
    this.process.kill("SIGTERM");
    const late = setTimeout(() => this.process.kill("SIGKILL"), 15_000);
    await this.exited;
    clearTimeout(late);
    rmSync(this.directory, { recursive: true, force: true });
  }

  async token() {
    return (await (await fetch(this.url + "/auth/token", { method: "POST" })).json()).token;
  }

  async get(route) {
    const answer = await fetch(this.url + route, { headers: { Authorization: "Bearer " + (await this.token()) } });
    if (!answer.ok) throw new Error(`${route}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }
}

/** The fake vendor as a program. */
export async function fakeVendor() {
  const child = spawn(path.join(path.dirname(program()), "agent-hub-load"), ["vendor", "--port", "0"], { stdio: ["ignore", "pipe", "inherit"] });
  const said = await new Promise((resolve, reject) => {
    child.stdout.once("data", resolve);
    child.once("exit", () => reject(new Error("the fake vendor does not start")));
  });
  return { url: String(said).trim(), stop: () => child.kill("SIGKILL") };
}

/** A browser with nothing in it. */
export async function browser() {
  const executablePath = process.env.CHROMIUM ?? BROWSERS.find(existsSync);
  if (!executablePath) throw new Error("chromium is not installed; run scripts/setup-test.sh");
  const directory = mkdtempSync(path.join(tmpdir(), "agent-hub-browser-"));
  const context = await chromium.launchPersistentContext(directory, {
    executablePath,
    headless: true,
    viewport: { width: 1360, height: 820 },
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
  context.setDefaultTimeout(20_000);
  return {
    context,
    async close() {
      await context.close();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

export async function screenshot(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SCREENSHOTS, name + ".png") });
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `look` gives something true. */
export async function until(what, look, ms = 20_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new Error("not in time: " + what);
    await sleep(30);
  }
}
