import {
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { folderTrouble } from "./folder-safety.ts";
import type { Memory } from "./ports.ts";
import { LaterStateError, readRefusals, readState, StateFormError } from "./read-state.ts";
import { type AgentState, emptyState, type Refusals, refusalsOf } from "./state.ts";

const STATE_FILE = "state.json";
/** What must not be forgotten where the state is lost: else a host would take an older or a bad build. */
const REFUSALS_FILE = "refusals.json";

/** The state directory cannot be used. The message says what to do. */
export class StateError extends Error {
  override readonly name = "StateError";
}

/** The agent's memory in a folder: files that are always whole. */
export class StateFile implements Memory {
  readonly #folder: string;
  readonly #warn: (message: string) => void;
  /** What the refusals' file holds; null: not known. */
  #refusals: string | null = null;
  #isDamaged = false;

  constructor(folder: string, warn: (message: string) => void) {
    this.#folder = folder;
    this.#warn = warn;
  }

  /**
   * Empty but for what is refused where there is none or where it cannot be understood: the host is still to be looked
   * after, and what it runs is asked from the host itself. Changes nothing. Throws `StateError`, also for the state of
   * a later agent, which is not ours to throw away.
   */
  read(): AgentState {
    const refusals = this.#readRefusals();
    const text = this.#text(STATE_FILE);
    if (text === null) return { ...emptyState(""), ...refusals };
    try {
      return readState(text);
    } catch (error) {
      const path = join(this.#folder, STATE_FILE);
      if (error instanceof LaterStateError) {
        const advice = "run that one, or put the file aside to begin without it";
        throw new StateError(`the state ${path} is that of a later agent (${error.message}): ${advice}`, {
          cause: error,
        });
      }
      if (!(error instanceof StateFormError)) throw error;
      this.#isDamaged = true;
      this.#warn(
        `the state ${path} cannot be understood (${error.message}): this goes on without it, and the next state that ` +
          `is written puts it aside as ${STATE_FILE}.damaged`,
      );
      return { ...emptyState(""), ...refusals };
    }
  }

  /** On the disk when this returns: first the content, then its name. */
  write(state: AgentState): void {
    const path = join(this.#folder, STATE_FILE);
    try {
      if (this.#isDamaged) renameSync(path, `${path}.damaged`);
      this.#isDamaged = false;
      replaceFile(path, `${JSON.stringify(state)}\n`);
      const refusals = `${JSON.stringify(refusalsOf(state))}\n`;
      if (refusals !== this.#refusals) replaceFile(join(this.#folder, REFUSALS_FILE), refusals);
      this.#refusals = refusals;
      syncFolder(this.#folder);
    } catch (error) {
      throw new StateError(`the state ${path} cannot be written: ${(error as Error).message}`, { cause: error });
    }
  }

  #readRefusals(): Refusals | null {
    this.#refusals = this.#text(REFUSALS_FILE);
    try {
      return this.#refusals === null ? null : readRefusals(this.#refusals);
    } catch (error) {
      if (error instanceof StateFormError || error instanceof LaterStateError) return null;
      throw error;
    }
  }

  #text(name: string): string | null {
    const path = join(this.#folder, name);
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw new StateError(`the state ${path} cannot be read: ${(error as Error).message}`, { cause: error });
    }
  }
}

/** Throws `StateError`, also where others may write there. */
export function prepareFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new StateError(`the state directory ${folder} cannot be made: ${(error as Error).message}`, { cause: error });
  }
  const trouble = folderTrouble(folder);
  if (trouble) throw new StateError(`the state directory ${folder} cannot be used: ${trouble}`);
}

/** The new file is made here and now: what may lie at its name, such as a link to elsewhere, is not written to. */
function replaceFile(path: string, text: string): void {
  const fresh = `${path}.new`;
  rmSync(fresh, { force: true });
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_WRONLY } = constants;
  const file = openSync(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  try {
    writeFileSync(file, text);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(fresh, path);
}

function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
