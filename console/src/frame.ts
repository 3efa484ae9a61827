// Many changes, one drawing; and never so many drawings that the page has no time for its reader.

/** A drawing that costs less than this needs no rest after it. */
const CHEAP_MS = 10;
const LONGEST_REST_MS = 250;
/** A hidden page has no pictures; it is drawn all the same, a little later. */
const LATEST_MS = 250;

/**
 * Calls `draw` once before the next picture, however often it is asked. After a drawing that was dear, layout included, it rests as long as
 * that took: at least half of the time is left for scrolling and typing.
 */
export function onFrame(draw: () => void): { ask(): void; cancel(): void } {
  let picture: number | undefined;
  let late: ReturnType<typeof setTimeout> | undefined;
  let rest: ReturnType<typeof setTimeout> | undefined;
  let restUntil = 0;

  const cancel = () => {
    if (picture !== undefined) cancelAnimationFrame(picture);
    clearTimeout(late);
    clearTimeout(rest);
    picture = late = rest = undefined;
  };
  const now = () => {
    cancel();
    const started = performance.now();
    draw();
    afterPicture(() => {
      const cost = performance.now() - started;
      if (cost > CHEAP_MS) restUntil = performance.now() + Math.min(cost, LONGEST_REST_MS);
    });
  };
  const next = () => {
    rest = undefined;
    picture = requestAnimationFrame(now);
    late = setTimeout(now, LATEST_MS);
  };
  return {
    cancel,
    ask() {
      if (picture !== undefined || rest !== undefined) return;
      const wait = restUntil - performance.now();
      if (wait > 1) rest = setTimeout(next, wait);
      else next();
    },
  };
}

/** A message posted while a picture is made is read when it is done. */
function afterPicture(act: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    act();
  };
  port2.postMessage(undefined);
}
