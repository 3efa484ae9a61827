// Dark or light: as the system has it, unless the reader says otherwise.
import { useEffect, useState } from "preact/hooks";

export type Theme = "auto" | "light" | "dark";
const PLACE = "agent-hub.theme";
const ORDER: Theme[] = ["auto", "light", "dark"];
const listeners = new Set<() => void>();
const system = matchMedia("(prefers-color-scheme: dark)");

let chosen: Theme = readChoice();
apply();
system.addEventListener("change", () => listeners.forEach((listener) => listener()));

function readChoice(): Theme {
  try {
    const kept = localStorage.getItem(PLACE) as Theme | null;
    return kept && ORDER.includes(kept) ? kept : "auto";
  } catch {
    return "auto";
  }
}

function apply(): void {
  document.documentElement.dataset["theme"] = chosen;
}

export function nextTheme(): void {
  chosen = ORDER[(ORDER.indexOf(chosen) + 1) % ORDER.length]!;
  try {
    localStorage.setItem(PLACE, chosen);
  } catch {
    // Without storage it holds until the page is left.
  }
  apply();
  listeners.forEach((listener) => listener());
}

/** What was chosen. */
export const theme = (): Theme => chosen;

/** Changes whenever the colours do. */
export function useTheme(): string {
  const [, draw] = useState(0);
  useEffect(() => {
    const listener = () => draw((n) => n + 1);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return `${chosen} ${system.matches}`;
}
