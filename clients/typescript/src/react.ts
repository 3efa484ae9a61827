// React: what is shown follows the hub. `agent-hub-client/react`
import { useCallback, useSyncExternalStore } from "react";
import type { Hub, Session, State } from "./api.js";
import type { Conversation } from "./conversation.js";

/** The state of the connection; the component is drawn again when it changes. */
export function useHub(hub: Hub): State {
  const subscribe = useCallback((changed: () => void) => hub.onChange(changed), [hub]);
  const state = () => hub.state;
  return useSyncExternalStore(subscribe, state, state);
}

/** The conversation of a session. */
export function useConversation(session: Session): Conversation {
  const subscribe = useCallback((changed: () => void) => session.onChange(changed), [session]);
  const conversation = () => session.conversation;
  return useSyncExternalStore(subscribe, conversation, conversation);
}

/** The state of a session. */
export function useSessionState(session: Session): State {
  const subscribe = useCallback((changed: () => void) => session.onChange(changed), [session]);
  const state = () => session.state;
  return useSyncExternalStore(subscribe, state, state);
}
