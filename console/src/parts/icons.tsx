// Small pictures drawn with the colour of the text beside them. None of them says anything the text does not.
import type { ComponentChildren } from "preact";

function icon(paths: ComponentChildren) {
  return () => (
    <svg class="icon" viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {paths}
    </svg>
  );
}

export const Mark = () => (
  <svg class="mark" viewBox="0 0 24 24" width="22" height="22" aria-hidden="true">
    <rect x="2" y="4" width="20" height="3" rx="1.5" fill="currentColor" opacity=".35" />
    <rect x="2" y="10.5" width="13" height="3" rx="1.5" fill="currentColor" />
    <rect x="2" y="17" width="8" height="3" rx="1.5" fill="currentColor" opacity=".35" />
    <circle cx="19.5" cy="12" r="2.5" fill="var(--accent)" />
  </svg>
);

export const Plus = icon(<path d="M8 3v10M3 8h10" />);
export const Menu = icon(<path d="M2.5 4.5h11M2.5 8h11M2.5 11.5h11" />);
export const Link = icon(<path d="M6.5 9.5l3-3M7 4.5l1-1a3 3 0 014.3 4.3l-1 1M9 11.5l-1 1A3 3 0 013.7 8.2l1-1" />);
export const Replay = icon(<path d="M3 8a5 5 0 105-5H4.5M6.5 1L4.3 3l2.2 2" />);
export const Play = icon(<path d="M5 3.2v9.6L12.5 8z" fill="currentColor" />);
export const Pause = icon(<path d="M5.5 3.5v9M10.5 3.5v9" stroke-width="2" />);
export const Back = icon(<path d="M10 3.5L5.5 8l4.5 4.5" />);
export const Forward = icon(<path d="M6 3.5L10.5 8 6 12.5" />);
export const ToStart = icon(<path d="M4 3.5v9M12 3.5L7.5 8l4.5 4.5" />);
export const ToEnd = icon(<path d="M12 3.5v9M4 3.5L8.5 8 4 12.5" />);
export const Down = icon(<path d="M8 3v10M4 9l4 4 4-4" />);
export const Stop = icon(<rect x="4" y="4" width="8" height="8" rx="1.5" fill="currentColor" />);
export const Send = icon(<path d="M8 13V3.5M4 7l4-4 4 4" stroke-width="1.8" />);
export const Gear = icon(<path d="M8 2v2M8 12v2M2 8h2M12 8h2M4 4l1 1M11 11l1 1M12 4l-1 1M5 11l-1 1M10.2 8a2.2 2.2 0 11-4.4 0 2.2 2.2 0 014.4 0z" />);
export const Tool = icon(<path d="M9.5 6.5L3 13M9 3a3 3 0 014 4L9.6 6.4z" />);
export const Cross = icon(<path d="M4 4l8 8M12 4l-8 8" />);
export const Check = icon(<path d="M3 8.5l3.5 3.5L13 4.5" />);
export const Search = icon(<path d="M7 11.5a4.5 4.5 0 100-9 4.5 4.5 0 000 9zM10.5 10.5L14 14" />);
export const Sun = icon(<path d="M8 10.8a2.8 2.8 0 100-5.6 2.8 2.8 0 000 5.6zM8 1.5v1M8 13.5v1M1.5 8h1M13.5 8h1M3.4 3.4l.7.7M11.9 11.9l.7.7M12.6 3.4l-.7.7M4.1 11.9l-.7.7" />);
export const Moon = icon(<path d="M13 9.5A5.5 5.5 0 016.5 3a5.5 5.5 0 106.5 6.5z" />);
export const Auto = icon(<path d="M8 13.5a5.5 5.5 0 100-11 5.5 5.5 0 000 11zM8 2.5v11" />);
