// Where the hub gives out no tokens, one is pasted. Where it does not answer, that is said, and it is asked again.
import { useEffect, useRef, useState } from "preact/hooks";
import { getToken, pasteToken, type Identity } from "../identity";
import { startAgain } from "../live";

const ASK_AGAIN_MS = 2000;

export function Credentials({ who }: { who: Identity }) {
  const [text, setText] = useState("");
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), [who]);
  useEffect(() => {
    if (who.phase !== "unreachable") return;
    const timer = setInterval(() => void getToken().catch(() => {}), ASK_AGAIN_MS);
    return () => clearInterval(timer);
  }, [who.phase]);
  if (who.phase === "asking") return <p class="page dim">Asking the hub for a token…</p>;
  if (who.phase === "unreachable") {
    return (
      <div class="page">
        <div class="notice" role="status">
          <strong>{who.why}</strong>
          <p>Trying again every {ASK_AGAIN_MS / 1000} s.</p>
        </div>
      </div>
    );
  }
  return (
    <div class="page credentials">
      <header class="page-head">
        <h1>Your token, please</h1>
        <p class="dim">{who.why} Paste one that was made for you. It is kept for this tab only and never put into an address.</p>
      </header>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (!text.trim()) return;
          pasteToken(text);
          startAgain();
        }}
      >
        <div class="field">
          <label for="token">Token</label>
          <input id="token" type="password" autocomplete="off" spellcheck={false} value={text} onInput={(event) => setText(event.currentTarget.value)} ref={field} />
        </div>
        <div class="actions">
          <button type="submit" class="primary">
            Use it
          </button>
        </div>
      </form>
      <p class="dim">
        Whoever runs the hub makes one with <code>agent-hub token --user ada --plan pro</code>.
      </p>
    </div>
  );
}
