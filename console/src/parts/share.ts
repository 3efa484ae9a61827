// A link to a session. It is an address, not a permission: the hub shows a session to its owner only.
import { toast } from "./toast";
import { hashOf, type Route } from "../route";

export function linkTo(route: Route): string {
  return `${location.origin}${location.pathname}${hashOf(route)}`;
}

/** Copies it, and says what it is good for. `false`: the browser does not let us; show it instead. */
export async function copyLink(route: Route, user: string | undefined): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(linkTo(route));
  } catch {
    return false;
  }
  toast(`Link copied. It opens this session here for ${user ? `you (${user})` : "you"}, after signing in; nobody else can read it.`);
  return true;
}
