// What happens, for who listens instead of looking. An answer is read when it is whole: token by token nobody could follow it.
import { useEffect, useRef, useState } from "preact/hooks";
import type { Conversation } from "agent-hub-client/conversation";
import { excerpt } from "../words";

const READ_ALOUD_CHARS = 600;

/** `live`: what happens now. What is only being read again is no news. */
export function Announcer({ conversation, live }: { conversation: Conversation; live: boolean }) {
  const [said, setSaid] = useState("");
  const seen = useRef(new Map<string, string>());
  useEffect(() => {
    const news = conversation.tasks.filter(({ id, status }) => seen.current.get(id) !== status);
    seen.current = new Map(conversation.tasks.map(({ id, status }) => [id, status]));
    const last = news.at(-1);
    if (!last || !live) return;
    const text = wordsFor(last.status, conversation, last.id);
    if (text) setSaid(text);
  }, [conversation]);
  return (
    <div class="hidden" aria-live="polite" id="announcer">
      {said}
    </div>
  );
}

function wordsFor(status: string, conversation: Conversation, taskId: string): string | undefined {
  const answer = conversation.messages.findLast((message) => message.taskId === taskId && message.role === "assistant");
  switch (status) {
    case "running":
      return "The agent is working.";
    case "suspended": {
      const asked = conversation.pendingInputs.find((input) => input.taskId === taskId);
      if (asked?.kind === "tool") return "The agent waits for another program.";
      return asked ? `The agent waits for you: ${asked.prompt ?? "an approval"}` : "The task is suspended.";
    }
    case "completed":
      return answer ? `The agent answered: ${excerpt(answer.text, READ_ALOUD_CHARS)}` : "The task is completed.";
    case "failed":
      return "The task failed.";
    case "cancelled":
      return "The task was stopped.";
    case "timeout":
      return "The task timed out.";
    default:
      return undefined;
  }
}
