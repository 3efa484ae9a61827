// A list of rows of one height, of which only those in sight are in the page: a log may have a hundred thousand.
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const BEYOND = 8;

interface Props {
  label: string;
  count: number;
  rowHeight: number;
  /** Kept in sight when it changes. */
  current?: number | undefined;
  /** Stay at the end as it grows, until somebody scrolls up. */
  follow?: boolean;
  row(index: number): ComponentChildren;
  onMove?(index: number): void;
}

export function Rows({ label, count, rowHeight, current, follow, row, onMove }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const atEnd = useRef(true);
  const [view, setView] = useState({ top: 0, height: 400 });

  const look = () => {
    const it = place.current;
    if (!it) return;
    atEnd.current = it.scrollHeight - it.scrollTop - it.clientHeight < rowHeight * 2;
    setView((before) => (before.top === it.scrollTop && before.height === it.clientHeight ? before : { top: it.scrollTop, height: it.clientHeight }));
  };
  useEffect(() => {
    const observer = new ResizeObserver(look);
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  useLayoutEffect(() => {
    const it = place.current;
    if (it && follow && atEnd.current) it.scrollTop = it.scrollHeight;
  }, [count, follow, view.height]);
  useLayoutEffect(() => {
    const it = place.current;
    if (!it || current === undefined) return;
    const top = current * rowHeight;
    if (top < it.scrollTop || top + rowHeight > it.scrollTop + it.clientHeight) it.scrollTop = Math.max(0, top - it.clientHeight / 2);
  }, [current, rowHeight]);

  const first = Math.max(0, Math.floor(view.top / rowHeight) - BEYOND);
  const last = Math.min(count, Math.ceil((view.top + view.height) / rowHeight) + BEYOND);
  const move = (event: KeyboardEvent) => {
    if (!onMove || event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const at = current ?? -1;
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: count - 1 }[event.key];
    if (to === undefined || !count) return;
    event.preventDefault();
    event.stopPropagation();
    onMove(Math.max(0, Math.min(to, count - 1)));
  };
  return (
    <div class="rows" ref={place} tabIndex={0} role="group" aria-label={label} onScroll={look} onKeyDown={move}>
      <div class="rows-all" style={{ height: `${count * rowHeight}px` }}>
        <ol style={{ transform: `translateY(${first * rowHeight}px)` }}>
          {Array.from({ length: Math.max(0, last - first) }, (_, offset) => row(first + offset))}
        </ol>
      </div>
    </div>
  );
}
