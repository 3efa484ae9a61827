// A token that expires while a task runs, on a hub that checks it.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import WebSocket from "ws";
import { connect } from "../dist/index.js";
import { RealHub } from "./support.mjs";

test("a token that expires is replaced without a break; its successor is what the socket stands on", async () => {
  const secret = "a secret of at least thirty-two bytes";
  const strict = await RealHub.start({ JWT_SECRET: secret });
  let given = 0;
  const getToken = () => signed(secret, { sub: "ada", exp: Math.floor(Date.now() / 1000) + (++given === 1 ? 1 : 3600) });
  try {
    const one = connect({ url: strict.url, getToken, WebSocket });
    const problems = [];
    one.onProblem((problem) => problems.push(problem));
    const session = one.create();
    const task = session.submit("/tokens 700 /pace 10");
    assert.equal((await task.finished).status, "completed", "for longer than the first token and its leeway lasted");
    assert.deepEqual([given, one.closed, problems], [2, undefined, []]);
    one.close();
  } finally {
    await strict.stop();
  }
});

function signed(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
