// Where the reader is, as the part of the address behind `#`. Nothing in it is secret: no token ever stands in an address.

export type Route =
  | { at: "home" }
  | { at: "sessions" }
  | { at: "numbers" }
  | { at: "session"; id: string }
  | { at: "replay"; id: string; seq?: number };

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Anything that is no place we know is home. */
export function parseRoute(hash: string): Route {
  const [first = "", second = "", third = "", fourth = ""] = hash.replace(/^#\/?/, "").split("/");
  if (UUID.test(first)) return { at: "session", id: first.toLowerCase() }; // links of the first console
  if (first === "sessions") return { at: "sessions" };
  if (first === "numbers") return { at: "numbers" };
  if (first !== "s" || !UUID.test(second)) return { at: "home" };
  const id = second.toLowerCase();
  if (third !== "replay") return { at: "session", id };
  return /^\d{1,15}$/.test(fourth) ? { at: "replay", id, seq: Number(fourth) } : { at: "replay", id };
}

export function hashOf(route: Route): string {
  switch (route.at) {
    case "home":
      return "#/";
    case "sessions":
      return "#/sessions";
    case "numbers":
      return "#/numbers";
    case "session":
      return `#/s/${route.id}`;
    case "replay":
      return `#/s/${route.id}/replay${route.seq === undefined ? "" : `/${route.seq}`}`;
  }
}

/** The session a route is about. */
export function sessionOf(route: Route): string | undefined {
  return route.at === "session" || route.at === "replay" ? route.id : undefined;
}

export function go(route: Route): void {
  const hash = hashOf(route);
  if (location.hash !== hash) location.hash = hash;
}
