import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

const LOCK_FILE = "lock";
const SQLITE_BUSY = 5;

export interface Lock extends Disposable {
  release(): void;
}

/**
 * Takes the folder for this process, or answers null when another one has it. The kernel ends the lock with the
 * process, however that ends, and what the process started does not inherit it.
 *
 * Node has no `flock`, and a file with a process id in it cannot be taken over from a dead process without a race.
 * SQLite comes with Node and holds the kernel's own lock; nothing is ever written into the file.
 */
export function takeLock(folder: string): Lock | null {
  const path = join(folder, LOCK_FILE);
  writeFileSync(path, "", { flag: "a", mode: 0o600 });
  const handle = new DatabaseSync(path, { timeout: 0 });
  try {
    handle.exec("pragma locking_mode = exclusive; pragma journal_mode = memory; begin exclusive");
  } catch (error) {
    handle.close();
    if (error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY) return null;
    throw error;
  }
  let isHeld = true;
  const release = (): void => {
    if (isHeld) handle.close();
    isHeld = false;
  };
  return { release, [Symbol.dispose]: release };
}
