// Socket.IO, in the shape of agent servers built on it: a session is made over HTTP, sockets join it, `send-query` runs it, and every event is emitted to every socket that joined, one
// emit per token. `abort-query` aborts the call of the model.

import http from "node:http";
import { randomUUID } from "node:crypto";
import express from "express";
import jwt from "jsonwebtoken";
import { Server } from "socket.io";
import { ask, listen, SECRET } from "../vendor.mjs";

const REFUSED = "Invalid or expired token";
const app = express();
const server = http.createServer(app);
const io = new Server(server);
const sessions = new Map();

app.get("/health", (req, res) => res.json({ status: "ok" }));
app.post("/api/v1/sessions/create", (req, res) => {
  let user;
  try {
    user = userOf(req.get("Authorization")?.replace(/^Bearer /, ""));
  } catch {
    res.status(401).json({ error: REFUSED });
    return;
  }
  const session = { id: randomUUID(), user, messages: [], sockets: new Set(), state: "idle", running: undefined };
  sessions.set(session.id, session);
  res.status(201).json({ sessionId: session.id });
});

io.use((socket, next) => {
  try {
    socket.data.user = userOf(socket.handshake.auth.token);
    next();
  } catch {
    next(new Error(REFUSED));
  }
});

io.on("connection", (socket) => {
  const find = (id) => {
    const session = sessions.get(id);
    if (session?.user === socket.data.user) return session;
    socket.emit("error", "Session not found");
  };
  socket.on("join-session", (id) => {
    const session = find(id);
    if (!session) return;
    session.sockets.add(socket);
    socket.on("disconnect", () => session.sockets.delete(socket));
    socket.emit("agent-status", { isProcessing: Boolean(session.running), state: session.state });
  });
  socket.on("send-query", (message) => {
    const session = find(message?.sessionId);
    if (!session) return;
    if (session.running) socket.emit("error", "Session is busy");
    else if (typeof message.query !== "string" || !message.query) socket.emit("error", "Query required");
    else query(session, message.query);
  });
  socket.on("abort-query", (message) => {
    const session = find(message?.sessionId);
    if (!session) return;
    const success = Boolean(session.running);
    session.running?.abort();
    socket.emit("abort-result", { success });
  });
});

/** The user a token speaks for; throws if it does not hold. */
function userOf(token) {
  const { id, sub } = jwt.verify(token, SECRET, { algorithms: ["HS256"] });
  return id ?? sub;
}

function emit(session, type, data) {
  for (const socket of session.sockets) socket.emit("agent-event", { type, data });
}

function status(session, state) {
  session.state = state;
  emit(session, "agent-status", { isProcessing: state === "executing", state });
}

async function query(session, text) {
  const running = (session.running = new AbortController());
  const messageId = randomUUID();
  session.messages.push({ role: "user", content: text });
  emit(session, "query", { text });
  status(session, "executing");
  let state = "idle";
  try {
    const tell = (content) => emit(session, "streaming_message", { content, isComplete: false, messageId });
    const answer = await ask(session.messages, (token) => running.signal.aborted || tell(token), running.signal);
    session.messages.push({ role: "assistant", content: answer });
    emit(session, "answer", { text: answer });
  } catch (error) {
    state = running.signal.aborted ? "aborted" : "error";
    emit(session, ...(running.signal.aborted ? ["aborted", {}] : ["error", { message: error.message }]));
  }
  session.running = undefined;
  status(session, state);
}

listen(server);
