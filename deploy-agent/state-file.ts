import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Memory } from "./ports.ts";
import { readState, StateFormError } from "./read-state.ts";
import { type AgentState, emptyState } from "./state.ts";

const STATE_FILE = "state.json";

/** The state directory cannot be used. The message says what to do. */
export class StateError extends Error {
  override readonly name = "StateError";
}

/** The agent's memory in a folder: a file that is always whole. */
export class StateFile implements Memory {
  readonly #folder: string;
  readonly #warn: (message: string) => void;

  constructor(folder: string, warn: (message: string) => void) {
    this.#folder = folder;
    this.#warn = warn;
  }

  /**
   * Empty where there is none. One that cannot be understood is put aside: the host is still to be looked after, and
   * what it runs is asked from the host itself.
   */
  read(): AgentState {
    const path = join(this.#folder, STATE_FILE);
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return emptyState("");
      throw new StateError(`the state ${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
    try {
      return readState(text);
    } catch (error) {
      if (!(error instanceof StateFormError)) throw error;
      const aside = `${path}.damaged`;
      renameSync(path, aside);
      this.#warn(
        `the state could not be understood (${error.message}) and is now ${aside}; this run begins without it`,
      );
      return emptyState("");
    }
  }

  /** On the disk when this returns: first the content, then its name. */
  write(state: AgentState): void {
    const path = join(this.#folder, STATE_FILE);
    try {
      const fresh = `${path}.new`;
      const file = openSync(fresh, "w", 0o600);
      try {
        writeFileSync(file, `${JSON.stringify(state)}\n`);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(fresh, path);
      syncFolder(this.#folder);
    } catch (error) {
      throw new StateError(`the state ${path} cannot be written: ${(error as Error).message}`, { cause: error });
    }
  }
}

export function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new StateError(`the state directory ${folder} cannot be made: ${(error as Error).message}`, { cause: error });
  }
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
