// Keys that work anywhere on the page. Single letters can be switched off: who speaks to a computer says letters all the time.
import { useEffect, useRef } from "preact/hooks";

const PLACE = "agent-hub.letters";
let letters = readChoice();

function readChoice(): boolean {
  try {
    return localStorage.getItem(PLACE) !== "off";
  } catch {
    return true;
  }
}

export const lettersOn = (): boolean => letters;

export function setLetters(on: boolean): void {
  letters = on;
  try {
    localStorage.setItem(PLACE, on ? "on" : "off");
  } catch {
    // Without storage it holds until the page is left.
  }
}

/** Whether what is typed goes into a field. */
export function isTyping(element: Element | null): boolean {
  return element instanceof HTMLElement && (element.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select") || element.isContentEditable);
}

/** While the component is there and no dialog is open. */
export function useKeys(keys: Record<string, (() => void) | undefined>): void {
  const newest = useRef(keys);
  newest.current = keys;
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
      const act = newest.current[event.key];
      if (!act || document.querySelector("dialog[open]")) return;
      if (event.key !== "Escape" && (isTyping(document.activeElement) || !letters)) return;
      event.preventDefault();
      act();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
}
