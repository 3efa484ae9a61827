// The box in which everything is asked. While a task runs, what is written either waits its turn or changes the running task's course.
import type { Ref } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Send, Stop } from "./icons";

/** What becomes of a prompt while a task is at work. */
export type WhenBusy = "queue" | "now" | "next_step" | "interrupt";

const WHEN_BUSY: [WhenBusy, string, string][] = [
  ["queue", "Ask next", "waits until this task has ended"],
  ["now", "Steer now", "breaks off the model call and goes on with your words; the task stays"],
  ["next_step", "Steer at the next step", "is added before the next model call"],
  ["interrupt", "Stop it and ask", "cancels this task, keeps what was said, then asks"],
];

interface Props {
  /** Something is being worked on. */
  busy: boolean;
  /** It takes steering: it runs, and does not wait for a person. */
  steerable: boolean;
  stopping?: boolean;
  disabled?: string | undefined;
  placeholder: string;
  limit: number;
  box?: Ref<HTMLTextAreaElement>;
  text: string;
  onText(text: string): void;
  onSend(text: string, when: WhenBusy): void;
  onStop?(): void;
}

export function Composer({ busy, steerable, stopping, disabled, placeholder, limit, box, text, onText, onSend, onStop }: Props) {
  const [when, setWhen] = useState<WhenBusy>("queue");
  const own = useRef<HTMLTextAreaElement | null>(null);
  const chosen: WhenBusy = busy && (steerable || when === "queue" || when === "interrupt") ? when : "queue";

  // As high as what is in it, up to what the style sheet allows.
  useEffect(() => {
    const it = own.current;
    if (!it) return;
    it.style.height = "auto";
    it.style.height = `${it.scrollHeight + 2}px`;
  }, [text]);

  const send = (as: WhenBusy) => {
    const prompt = text.trim();
    if (!prompt || disabled !== undefined || [...prompt].length > limit) return;
    onSend(prompt, as);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send((event.ctrlKey || event.metaKey) && steerable ? "now" : chosen);
  };
  const length = [...text].length;
  const explain = WHEN_BUSY.find(([key]) => key === chosen)?.[2];
  const verb = !busy ? "Send" : chosen === "queue" ? "Send next" : chosen === "interrupt" ? "Stop and send" : "Steer";
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send(chosen);
      }}
    >
      {busy && (
        <div class="when">
          <label for="when">While it works</label>
          <select id="when" value={chosen} onChange={(event) => setWhen(event.currentTarget.value as WhenBusy)}>
            {WHEN_BUSY.map(([key, name]) => (
              <option key={key} value={key} disabled={!steerable && (key === "now" || key === "next_step")}>
                {name}
              </option>
            ))}
          </select>
          <span class="dim">{explain}</span>
        </div>
      )}
      <div class="box">
        <label for="prompt" class="hidden">
          Prompt
        </label>
        <textarea
          id="prompt"
          rows={1}
          ref={(it) => {
            own.current = it;
            if (typeof box === "function") box(it);
            else if (box) box.current = it;
          }}
          value={text}
          placeholder={disabled ?? placeholder}
          disabled={disabled !== undefined}
          aria-describedby="composer-hint"
          onInput={(event) => onText(event.currentTarget.value)}
          onKeyDown={onKeyDown}
        />
        {busy && onStop && (
          <button type="button" id="stop" class="stop" onClick={onStop} disabled={stopping} title="Esc">
            <Stop /> <span>{stopping ? "Stopping…" : "Stop"}</span>
          </button>
        )}
        <button type="submit" class="primary" disabled={disabled !== undefined || !text.trim() || length > limit} title="Enter">
          <Send /> <span>{verb}</span>
        </button>
      </div>
      <p class="hint dim" id="composer-hint">
        {length > limit ? (
          <span class="bad">{length.toLocaleString("en")} of at most {limit.toLocaleString("en")} characters</span>
        ) : (
          <>
            <kbd>Enter</kbd> sends, <kbd>Shift</kbd>+<kbd>Enter</kbd> begins a line
            {busy && (
              <>
                , <kbd>Esc</kbd> stops{steerable && <>, <kbd>Ctrl</kbd>+<kbd>Enter</kbd> steers at once</>}
              </>
            )}
          </>
        )}
      </p>
    </form>
  );
}
