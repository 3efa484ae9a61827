// The client the console is built on: the published one, from its sources.
export * from "agent-hub-client";
