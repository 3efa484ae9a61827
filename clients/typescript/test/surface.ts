// What the README shows compiles, against the built package, under its own name.
import { HubError, connect, storedCursors, type Conversation, type HubEvent, type PendingInput, type TaskOutcome } from "agent-hub-client";
import { emptyConversation, fromSnapshot, reduce } from "agent-hub-client/conversation";
import { useConversation, useHub, useSessionState } from "agent-hub-client/react";

export async function surface(storage: Storage): Promise<void> {
  const hub = connect({ url: "", getToken: async () => "token", cursors: storedCursors(storage, "app"), backoff: (attempt) => attempt, WebSocket, fetch });
  const session = hub.create({ agent: "assistant", tags: ["a"], metadata: { any: [1] } });
  const task = session.submit("Hello", { onBusy: "queue", timeoutMs: 1, options: { temperature: 0 } });
  for await (const event of task) if (event.type === "token") event.data.token satisfies string;
  const outcome: TaskOutcome = await task.finished;
  if (outcome.status === "failed") outcome.error?.code satisfies string | undefined;
  const receipt = await task.steer("Shorter", { when: "now" });
  if (receipt.outcome === "applied") receipt.step satisfies number;
  const [input]: readonly PendingInput[] = task.inputs;
  await input?.respond({ outcome: "accept", payload: { any: 1 } });
  await task.cancel("enough").catch((error) => error instanceof HubError && error.code === "already_terminal");
  const fold = (all: HubEvent[]): Conversation => all.reduce(reduce, emptyConversation(session.id));
  session.onAttached(({ kept }) => kept satisfies boolean);
  void [fold, fromSnapshot, hub.open(session.id, { after: "start" }).ready];
}

export const Component = ({ hub, session }: { hub: ReturnType<typeof connect>; session: ReturnType<ReturnType<typeof connect>["open"]> }) =>
  `${useHub(hub)} ${useSessionState(session)} ${useConversation(session).messages.length}`;
