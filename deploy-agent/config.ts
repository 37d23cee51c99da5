import type { Environment } from "./read-settings.ts";

/** What the process was started with. Everything else of the agent takes its settings as arguments. */
export function processEnvironment(): Environment {
  return process.env;
}
