import { chmodSync, closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const LOCK_FILE = "lock";
const SQLITE_BUSY = 5;

export interface FolderLock {
  release(): void;
}

/**
 * Takes the folder for this process, or answers null when another process has it. The lock ends with the process,
 * however it ends, and it also holds between containers that share the folder.
 *
 * Node has no `flock`, and a file with a process id in it cannot be taken over from a dead process without a race.
 * SQLite comes with Node and holds the kernel's own file lock; nothing is ever written into the file.
 */
export function lockFolder(folder: string): FolderLock | null {
  const path = join(folder, LOCK_FILE);
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const handle = new DatabaseSync(path, { timeout: 0 });
  try {
    handle.exec("pragma locking_mode = exclusive; begin exclusive");
  } catch (error) {
    handle.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) return null;
    throw error;
  }
  return { release: () => handle.close() };
}
