import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { StateError } from "./state-file.ts";

const LOCK_FILE = "lock";
const SQLITE_BUSY = 5;
/** SQLite's words for a file that is none of its own: a damaged one, or not a database. */
const SQLITE_NOT_ITS_OWN: ReadonlySet<unknown> = new Set([11, 26]);

export interface Lock extends Disposable {
  release(): void;
}

/**
 * Takes the folder for this process, or answers null when another one has it. The kernel ends the lock with the
 * process, however that ends, and what the process started does not inherit it.
 *
 * Node has no `flock`, and a file with a process id in it cannot be taken over from a dead process without a race.
 * SQLite comes with Node and holds the kernel's own lock; nothing is ever written into the file.
 *
 * Throws `StateError` where the file cannot be used.
 */
export function takeLock(folder: string): Lock | null {
  const path = join(folder, LOCK_FILE);
  try {
    writeFileSync(path, "", { flag: "a", mode: 0o600 });
    try {
      return lockFile(path);
    } catch (error) {
      if (!SQLITE_NOT_ITS_OWN.has(codeOf(error))) throw error;
      // Emptied in its place, never replaced: two agents would else lock two files. One that is held is empty already.
      truncateSync(path);
      return lockFile(path);
    }
  } catch (error) {
    throw new StateError(`the lock ${path} cannot be taken: ${(error as Error).message}`, { cause: error });
  }
}

function lockFile(path: string): Lock | null {
  const handle = new DatabaseSync(path, { timeout: 0 });
  try {
    handle.exec("pragma locking_mode = exclusive; pragma journal_mode = memory; begin exclusive");
  } catch (error) {
    handle.close();
    if (codeOf(error) === SQLITE_BUSY) return null;
    throw error;
  }
  let isHeld = true;
  const release = (): void => {
    if (isHeld) handle.close();
    isHeld = false;
  };
  return { release, [Symbol.dispose]: release };
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "errcode" in error ? error.errcode : null;
}
