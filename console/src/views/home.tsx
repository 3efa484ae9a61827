// The beginning: choose an agent, ask something. The session is made with the first prompt, or empty.
import { useEffect, useRef, useState } from "preact/hooks";
import { complaint, type Capabilities } from "../api";
import { create } from "../live";
import { Composer } from "../parts/composer";
import { Suggestions } from "../parts/suggestions";
import { go } from "../route";

interface Props {
  able: Capabilities | undefined;
  trouble: string | undefined;
}

export function Home({ able, trouble }: Props) {
  const box = useRef<HTMLTextAreaElement>(null);
  const [text, setText] = useState("");
  const [chosen, setChosen] = useState<string>();
  const [name, setName] = useState("");
  const [problem, setProblem] = useState<string>();
  useEffect(() => box.current?.focus(), [able !== undefined]);

  const agent = chosen ?? able?.agents[0]?.name;
  const begin = (prompt?: string) => {
    try {
      const made = create({ ...(agent && { agent }), ...(name.trim() && { name: name.trim().slice(0, 200) }) });
      if (prompt) made.submit(prompt);
      go({ at: "session", id: made.session.id });
    } catch (error) {
      setProblem(complaint(error));
    }
  };
  const pick = (prompt: string) => {
    setText(prompt);
    box.current?.focus();
  };
  return (
    <div class="page home">
      <header class="page-head">
        <h1>What should the agent do?</h1>
        <p class="dim">A session is a log: whatever happens in it is kept, in every tab, through every lost network and restart.</p>
      </header>
      {able && able.agents.length > 1 && (
        <fieldset class="agents">
          <legend>Agent</legend>
          {able.agents.map((one) => (
            <label key={one.name} class={one.name === agent ? "chosen" : ""}>
              <input type="radio" name="agent" value={one.name} checked={one.name === agent} onChange={() => setChosen(one.name)} />
              <strong>{one.name}</strong>
              {one.description && <span>{one.description}</span>}
              <small class="dim">{one.model}</small>
            </label>
          ))}
        </fieldset>
      )}
      <Composer
        busy={false}
        steerable={false}
        disabled={able || !trouble ? undefined : trouble}
        placeholder="Ask something"
        limit={able?.maxPromptLength ?? 10_000}
        box={box}
        text={text}
        onText={setText}
        onSend={(prompt) => begin(prompt)}
      />
      {problem && (
        <p class="note bad" role="alert">
          {problem}
        </p>
      )}
      <details class="more">
        <summary>Name it, or begin without a prompt</summary>
        <div class="field">
          <label for="name">Name</label>
          <input id="name" maxLength={200} autocomplete="off" value={name} placeholder="its first prompt, otherwise" onInput={(event) => setName(event.currentTarget.value)} />
        </div>
        {able && able.agents.length === 1 && (
          <p class="dim">
            One agent is configured: <code>{able.agents[0]!.name}</code>, model <code>{able.agents[0]!.model}</code>.
          </p>
        )}
        <button type="button" onClick={() => begin()}>
          Begin an empty session
        </button>
      </details>
      {able?.models.includes("demo") && <Suggestions onPick={pick} />}
    </div>
  );
}
