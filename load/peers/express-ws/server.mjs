// Express + ws + jsonwebtoken, the way tutorials build an agent API: sessions in a Map, one JSON frame per token as it comes. Its `cancel_task` does what is mostly written there: it
// acknowledges, and the answer goes on, because nothing reaches the call of the model. That is the point of measuring it; the hub's own cancel stops the call.

import http from "node:http";
import { randomUUID } from "node:crypto";
import express from "express";
import jwt from "jsonwebtoken";
import { WebSocketServer, WebSocket } from "ws";
import { ask, listen, SECRET } from "../vendor.mjs";

const app = express();
app.get("/health", (req, res) => res.json({ status: "ok" }));

const server = http.createServer(app);
const sockets = new WebSocketServer({ server, path: "/ws/agents" });
const sessions = new Map();

sockets.on("connection", (ws, req) => {
  let user;
  try {
    user = userOf(new URL(req.url, "http://localhost").searchParams.get("token"));
  } catch {
    ws.close(4001, "Authentication failed");
    return;
  }
  let session;
  const send = (message) => {
    if (ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(message));
  };
  ws.on("error", () => {}); // "close" follows.
  ws.on("close", () => session && sessions.delete(session.id));
  ws.on("message", (raw) => {
    let message;
    try {
      message = JSON.parse(raw);
    } catch {
      send({ type: "error", message: "Invalid JSON" });
      return;
    }
    if (message?.type === "create_session") {
      if (session) sessions.delete(session.id);
      session = { id: randomUUID(), user, messages: [] };
      sessions.set(session.id, session);
      send({ type: "session_created", sessionId: session.id });
    } else if (message?.type === "submit_task") {
      submit(session, message.prompt, send);
    } else if (message?.type === "cancel_task") {
      send({ type: "task_cancelled", taskId: message.taskId });
    }
  });
});

/** The user a token speaks for; throws if it does not hold. */
function userOf(token) {
  const { id, sub } = jwt.verify(token, SECRET, { algorithms: ["HS256"] });
  return id ?? sub;
}

async function submit(session, prompt, send) {
  if (!session) return send({ type: "error", message: "Session not found" });
  if (typeof prompt !== "string" || !prompt) return send({ type: "error", message: "Prompt required" });
  const taskId = randomUUID();
  session.messages.push({ role: "user", content: prompt });
  send({ type: "task_started", taskId });
  try {
    const result = await ask(session.messages, (token) => send({ type: "token", taskId, data: { token } }));
    session.messages.push({ role: "assistant", content: result });
    send({ type: "task_completed", taskId, data: { result } });
  } catch (error) {
    send({ type: "task_failed", taskId, data: { error: error.message } });
  }
}

listen(server);
