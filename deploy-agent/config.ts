import { existsSync } from "node:fs";
import { join } from "node:path";
import { folderTrouble } from "./folder-safety.ts";
import type { Environment } from "./read-settings.ts";

/** What the process was started with. Everything else of the agent takes its settings as arguments. */
export function processEnvironment(): Environment {
  return process.env;
}

/**
 * Where Node keeps what it made of our files: in the state directory, if there is one already, and nobody else could
 * put code there. Null: nowhere, or where NODE_COMPILE_CACHE says.
 */
export function compileCacheFolder(environment: Environment): string | null {
  if (environment.NODE_COMPILE_CACHE) return null;
  const state = environment.GRADIENT_DEPLOY_STATE_DIR || environment.STATE_DIRECTORY?.split(":")[0];
  if (!state?.startsWith("/") || !existsSync(state) || folderTrouble(state)) return null;
  return join(state, "compile-cache");
}
