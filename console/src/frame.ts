// Many changes, one drawing.

/** Calls `draw` once before the next picture, however often it is asked. A hidden page has no pictures; then it comes a little later. */
export function onFrame(draw: () => void): { ask(): void; cancel(): void } {
  let asked: number | undefined;
  let late: ReturnType<typeof setTimeout> | undefined;
  const cancel = () => {
    if (asked !== undefined) cancelAnimationFrame(asked);
    clearTimeout(late);
    asked = late = undefined;
  };
  const now = () => {
    cancel();
    draw();
  };
  return {
    cancel,
    ask() {
      if (asked !== undefined || late !== undefined) return;
      asked = requestAnimationFrame(now);
      late = setTimeout(now, 250);
    },
  };
}
