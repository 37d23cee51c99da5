import { access, chmod, constants, mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { hasCode, makeFolder, writeFileAtomically } from "#runtime/node/files.ts";
import { type FolderLock, lockFolder } from "#runtime/node/folder-lock.ts";
import { messageOf, QuickstartError } from "./problem.ts";

/** What a run leaves for the next one. */
export class DataFolder implements Disposable {
  readonly path: string;
  readonly #lock: FolderLock;

  private constructor(path: string, lock: FolderLock) {
    this.path = path;
    this.#lock = lock;
  }

  /** Makes the folder where it is missing and takes it for this run. Throws `QuickstartError`. */
  static async open(path: string): Promise<DataFolder> {
    let lock: FolderLock | null;
    try {
      await makeFolder(path, 0o700);
      await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
      await chmod(path, 0o700);
      lock = lockFolder(path);
    } catch (error) {
      throw new QuickstartError(
        `the data folder ${path} cannot be used (${messageOf(error)}): name one that you may write to with --data DIR`,
        { cause: error },
      );
    }
    if (lock) return new DataFolder(path, lock);
    throw new QuickstartError(
      `another quickstart is running on ${path}: end it first, or name another folder with --data DIR`,
    );
  }

  /** The path of something in the folder. */
  at(...names: readonly string[]): string {
    return join(this.path, ...names);
  }

  async makeFolder(...names: readonly string[]): Promise<string> {
    const path = this.at(...names);
    await mkdir(path, { recursive: true, mode: 0o700 });
    return path;
  }

  /** Null when it was never kept. */
  async read(name: string): Promise<string | null> {
    try {
      return await readFile(this.at(name), "utf8");
    } catch (error) {
      if (hasCode(error, "ENOENT")) return null;
      throw new QuickstartError(`${this.at(name)} cannot be read: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Whole or not at all; nobody else may read it. */
  async keep(name: string, text: string): Promise<void> {
    await writeFileAtomically(this.at(name), text, 0o600);
  }

  [Symbol.dispose](): void {
    this.#lock.release();
  }
}
