// The hooks: what is drawn follows the hub.
import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import TestRenderer, { act } from "react-test-renderer";
import { useConversation, useHub, useSessionState } from "../dist/react.js";
import { SESSION, ScriptedHub, created, impatient, told, until } from "./support.mjs";

// So that changes outside of `act` are drawn as in a page.
globalThis.IS_REACT_ACT_ENVIRONMENT = false;

function Chat({ hub, session }) {
  const { messages } = useConversation(session);
  return `${useHub(hub)}/${useSessionState(session)}: ${messages.map(({ text }) => text).join(" | ")}`;
}

test("a component is drawn again with each change, also when it is given another session", async () => {
  const log = [created(), ...told(2, ["Gannet", " and", " tern."])];
  const scripted = await ScriptedHub.start(async (connection, n) => {
    connection.welcome();
    await connection.attaches(n === 1 ? log.slice(0, 5) : log);
  });
  const hub = impatient(scripted.url);
  const session = hub.open(SESSION, { after: "e1.0" });
  const element = createElement(Chat, { hub, session });
  assert.equal(renderToString(element), "connecting/stale: ");
  const drawn = [];
  const root = await act(() => TestRenderer.create(element));
  const text = () => (drawn.at(-1) === root.toJSON() || drawn.push(root.toJSON()), root.toJSON());
  await until("the first part", () => text() === "live/live: Say it | Gannet");
  scripted.connections[0].reset();
  await until("the rest", () => text() === "live/live: Say it | Gannet and tern.");
  assert.equal(renderToString(element), "live/live: Say it | Gannet and tern.");

  const other = hub.create();
  await act(() => root.update(createElement(Chat, { hub, session: other })));
  assert.equal(text(), "replaying/connecting: ", "another session");
  await act(() => root.unmount());
  hub.close();
  scripted.stop();
});
