// Short news that need no answer. They are read out, and go away by themselves.
import { useEffect, useState } from "preact/hooks";

type Tone = "plain" | "bad";
interface Toast {
  key: number;
  text: string;
  tone: Tone;
}

const SHOWN_MS = 6000;
/** The oldest goes when there are more. */
const MOST = 3;

let toasts: Toast[] = [];
let next = 1;
let changed: (() => void) | undefined;

export function toast(text: string, tone: Tone = "plain"): void {
  const key = next++;
  toasts = [...toasts, { key, text, tone }].slice(-MOST);
  changed?.();
  setTimeout(() => {
    toasts = toasts.filter((one) => one.key !== key);
    changed?.();
  }, SHOWN_MS);
}

export function Toasts() {
  const [, draw] = useState(0);
  useEffect(() => {
    changed = () => draw((n) => n + 1);
    return () => void (changed = undefined);
  }, []);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {toasts.map(({ key, text, tone }) => (
        <p key={key} class={"toast " + tone}>
          {text}
        </p>
      ))}
    </div>
  );
}
