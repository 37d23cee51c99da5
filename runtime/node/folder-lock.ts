import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { hasCode } from "./files.ts";

const LOCK_FILE = "lock";
const SQLITE_BUSY = 5;

export interface FolderLock {
  release(): void;
}

/** The kernel's lock belongs to the process, and closing the file anywhere in the process would drop it. */
const heldHere = new Set<string>();

/**
 * Takes the folder for this holder, or answers null when somebody else has it. The lock ends with the process, however
 * that ends, and it also holds between containers that share the folder.
 *
 * Node has no `flock`, and a file with a process id in it cannot be taken over from a dead process without a race.
 * SQLite comes with Node and holds the kernel's own file lock; nothing is ever written into the file.
 */
export function lockFolder(folder: string): FolderLock | null {
  const path = join(resolve(folder), LOCK_FILE);
  if (heldHere.has(path)) return null;
  createPrivately(path);
  const handle = new DatabaseSync(path, { timeout: 0 });
  try {
    handle.exec("pragma locking_mode = exclusive; pragma journal_mode = memory; begin exclusive");
  } catch (error) {
    handle.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) return null;
    throw error;
  }
  heldHere.add(path);
  return {
    release: () => {
      if (heldHere.delete(path)) handle.close();
    },
  };
}

function createPrivately(path: string): void {
  try {
    writeFileSync(path, "", { flag: "wx", mode: 0o600 });
  } catch (error) {
    if (!hasCode(error, "EEXIST")) throw error;
  }
}
