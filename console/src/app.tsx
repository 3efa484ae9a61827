// The frame of the page: where the reader is, how the connection is, which sessions there are.
import { useEffect, useReducer, useRef, useState } from "preact/hooks";
import { capabilities, complaint, type Capabilities } from "./api";
import { getToken, identity, onIdentity } from "./identity";
import { useKeys } from "./keys";
import { useHub } from "./live";
import { Help } from "./parts/help";
import * as Icon from "./parts/icons";
import { Sidebar, useNewest } from "./parts/sidebar";
import { StatePill, useLink } from "./parts/state";
import { Toasts } from "./parts/toast";
import { go, hashOf, parseRoute, sessionOf, type Route } from "./route";
import { nextTheme, theme, useTheme } from "./theme";
import { Credentials } from "./views/credentials";
import { Home } from "./views/home";
import { Numbers } from "./views/numbers";
import { ReplayPage } from "./views/replay";
import { SessionPage } from "./views/session";
import { SessionsPage } from "./views/sessions";

export function App() {
  const who = useIdentity();
  const hub = useHub();
  const link = useLink(hub);
  const route = useRoute();
  const known = who.phase === "known";
  const { able, trouble } = useCapabilities(known);
  const newest = useNewest(known);
  const [help, setHelp] = useState(false);
  const [drawer, setDrawer] = useState(false);
  useKeys({ "?": () => setHelp(true), n: () => go({ at: "home" }), g: () => go({ at: "sessions" }), m: () => go({ at: "numbers" }), d: nextTheme });
  useTitle(route, newest.list?.find(({ id }) => id === sessionOf(route))?.name);
  const menu = useRef<HTMLButtonElement>(null);
  const closeDrawer = () => setDrawer(false);

  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        To the content
      </a>
      <header class="top">
        <button type="button" id="menu" ref={menu} class="plain icon-only" aria-label="Sessions" aria-expanded={drawer} aria-controls="sidebar" onClick={() => setDrawer(!drawer)}>
          <Icon.Menu />
        </button>
        <a class="brand" href={hashOf({ at: "home" })}>
          <Icon.Mark /> agent-hub
        </a>
        <StatePill link={link} />
        <nav aria-label="Console">
          {known && (
            <>
              <a href={hashOf({ at: "sessions" })} aria-current={route.at === "sessions" ? "page" : undefined}>
                Sessions
              </a>
              <a href={hashOf({ at: "numbers" })} aria-current={route.at === "numbers" ? "page" : undefined}>
                Numbers
              </a>
            </>
          )}
          <a href="/docs" class="beyond">
            API
          </a>
        </nav>
        {hub?.welcome && (
          <span class="who" id="who">
            You are {hub.welcome.user}
          </span>
        )}
        <ThemeButton />
        <button type="button" class="plain icon-only" aria-label="Keys and words" title="?" onClick={() => setHelp(true)}>
          <b aria-hidden="true">?</b>
        </button>
      </header>
      <div class="panes">
        {known && (
          <aside
            id="sidebar"
            class={drawer ? "open" : ""}
            aria-label="Sessions"
            onKeyDown={(event) => {
              if (event.key !== "Escape" || !drawer) return;
              event.preventDefault();
              closeDrawer();
              menu.current?.focus();
            }}
          >
            <DrawerFocus open={drawer} />
            <nav class="side-nav" aria-label="Elsewhere">
              <a href={hashOf({ at: "numbers" })} onClick={closeDrawer}>
                Numbers
              </a>
              <a href="/docs">API</a>
            </nav>
            <Sidebar list={newest.list} trouble={newest.trouble} current={sessionOf(route)} onPick={closeDrawer} />
          </aside>
        )}
        {drawer && <div class="veil" onClick={closeDrawer} />}
        <main id="main" tabIndex={-1}>
          {!known || !hub ? (
            <Credentials who={who} />
          ) : route.at === "session" ? (
            <SessionPage key={route.id} id={route.id} hub={hub} link={link} able={able} />
          ) : route.at === "replay" ? (
            <ReplayPage key={route.id} id={route.id} seq={route.seq} user={hub.welcome?.user} />
          ) : route.at === "sessions" ? (
            <SessionsPage />
          ) : route.at === "numbers" ? (
            <Numbers />
          ) : (
            <Home able={able} trouble={trouble} />
          )}
        </main>
      </div>
      {help && <Help onClose={() => setHelp(false)} />}
      <Toasts />
    </>
  );
}

/** An opened drawer takes the focus, so that Escape and Tab are its own. */
function DrawerFocus({ open }: { open: boolean }) {
  const place = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    if (open) place.current?.parentElement?.querySelector<HTMLElement>("a.primary")?.focus();
  }, [open]);
  return <span ref={place} hidden />;
}

const THEMES = { auto: [Icon.Auto, "As the system has it"], light: [Icon.Sun, "Light"], dark: [Icon.Moon, "Dark"] } as const;

function ThemeButton() {
  useTheme();
  const [Picture, name] = THEMES[theme()];
  return (
    <button type="button" class="plain icon-only" aria-label={`Colours: ${name}`} title={`Colours: ${name}`} onClick={nextTheme}>
      <Picture />
    </button>
  );
}

function useIdentity() {
  const [, draw] = useReducer((n: number) => n + 1, 0);
  useEffect(() => {
    const unlisten = onIdentity(draw as () => void);
    getToken().catch(() => {
      // What is the case is in `identity()`.
    });
    return unlisten;
  }, []);
  return identity();
}

function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const look = () => setRoute(parseRoute(location.hash));
    addEventListener("hashchange", look);
    return () => removeEventListener("hashchange", look);
  }, []);
  return route;
}

const ASK_AGAIN_MS = 3000;

function useCapabilities(known: boolean) {
  const [able, setAble] = useState<Capabilities>();
  const [trouble, setTrouble] = useState<string>();
  useEffect(() => {
    if (!known || able) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const ask = () =>
      capabilities().then(setAble, (error: unknown) => {
        setTrouble(complaint(error));
        timer = setTimeout(ask, ASK_AGAIN_MS);
      });
    void ask();
    return () => clearTimeout(timer);
  }, [known, able]);
  return { able, trouble };
}

function useTitle(route: Route, name: string | undefined): void {
  useEffect(() => {
    const place = { home: "New session", sessions: "Sessions", numbers: "Numbers", session: name ?? "Session", replay: `Replay of ${name ?? "a session"}` }[route.at];
    document.title = `${place} · agent-hub`;
  }, [route, name]);
}
