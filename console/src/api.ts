// The hub's HTTP API, as far as the console asks it. Everything that happens in a session comes over the client instead.
import { getToken, HubRefusal, replaceToken } from "./identity";
import type { HubEvent } from "./client";

const API = "/api/v1/agents";

export interface SessionSummary {
  id: string;
  status: "active" | "ended";
  agent: string;
  name?: string;
  tags: string[];
  taskCount: number;
  unfinishedTasks: number;
  createdAt: string;
  updatedAt: string;
}

export interface SessionPage {
  sessions: SessionSummary[];
  next: string | null;
}

export interface SessionDetails {
  id: string;
  userId: string;
  status: "active" | "disconnected" | "ended";
  agent: string;
  model?: string;
  name?: string;
  tags: string[];
  tools: string[];
  taskCount: number;
  createdAt: string;
  updatedAt: string;
  /** `<epoch>.<head>` */
  cursor: string;
}

export interface AgentInfo {
  name: string;
  description: string;
  model: string;
}

export interface Capabilities {
  agents: AgentInfo[];
  models: string[];
  tools: { name: string; description: string }[];
  maxTasksPerSession: number | null;
  maxPromptLength: number;
}

export interface EventPage {
  events: HubEvent[];
  next: string;
  head: string;
  recovered: boolean;
}

export const capabilities = (): Promise<Capabilities> => call("GET", "/capabilities");

export function sessions(before?: string, limit = 50): Promise<SessionPage> {
  return call("GET", `/sessions?limit=${limit}${before ? "&before=" + encodeURIComponent(before) : ""}`);
}

export const session = (id: string): Promise<SessionDetails> => call("GET", `/sessions/${id}`);

export function updateSession(id: string, change: { name?: string; tags?: string[] }): Promise<SessionDetails> {
  return call("PATCH", `/sessions/${id}`, change);
}

export const deleteSession = (id: string): Promise<void> => call("DELETE", `/sessions/${id}`);

export function events(id: string, after?: string, limit = 1000, signal?: AbortSignal): Promise<EventPage> {
  return call("GET", `/sessions/${id}/events?limit=${limit}${after ? "&after=" + encodeURIComponent(after) : ""}`, undefined, signal);
}

/** The hub's measurements. Open to the machine itself; from elsewhere a token needs the scope `metrics`. */
export async function metrics(signal?: AbortSignal): Promise<string> {
  const answer = await send("GET", "/metrics", undefined, signal);
  return answer.text();
}

function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  return request(method, API + path, body, signal);
}

async function request<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const answer = await send(method, path, body, signal);
  return (answer.status === 204 ? undefined : await answer.json()) as T;
}

async function send(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  let answer = await sendOnce(method, path, body, signal);
  // The hub of before may have been another one: where tokens are given out, a refused one is no news.
  if (answer.status === 401 && (await replaceToken())) {
    answer = await sendOnce(method, path, body, signal);
  }
  if (!answer.ok) throw await refusalOf(answer);
  return answer;
}

async function sendOnce(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<Response> {
  const headers: Record<string, string> = { Authorization: "Bearer " + (await getToken()) };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  return fetch(path, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }), ...(signal && { signal }) });
}

async function refusalOf(answer: Response): Promise<HubRefusal> {
  const said = (await answer.json().catch(() => ({}))) as { error?: string; message?: string; code?: string; details?: unknown };
  const seconds = Number(answer.headers.get("retry-after"));
  const message = said.message ?? said.error ?? `The hub answered ${answer.status}`;
  return new HubRefusal(answer.status, said.code ?? "internal", message, said.details, seconds ? seconds * 1000 : undefined);
}

/** What went wrong, for people. */
export function complaint(error: unknown): string {
  if (error instanceof TypeError) return "The hub does not answer. Is it running, and is the network there?";
  return error instanceof Error ? error.message : String(error);
}
