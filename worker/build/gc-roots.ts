import { mkdir, readdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { isUuid } from "#core/lib/ids.ts";
import { type StorePath, storePathBaseName } from "#core/nix/store-path.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { DaemonConnection } from "../daemon/connection.ts";

/**
 * Keeps the inputs and outputs of running builds from garbage collection, also where a connection is lost: links in
 * `dir/<attempt>/`, registered with the daemon unless it looks there anyway. An empty `dir` is none. A folder that
 * cannot be written is reported once; builds go on, held by their connections.
 */
export class GcRoots {
  readonly #dir: string;
  readonly #log: Logger;
  readonly #isDirect: boolean;
  #reported = false;

  constructor(dir: string, { storeRoot, log }: { readonly storeRoot: string; readonly log: Logger }) {
    this.#dir = dir;
    this.#log = log;
    // Whatever is below this folder of a store is a root; registering it would cost a question for each link.
    this.#isDirect = dir.startsWith(`${storeRoot}/nix/var/nix/gcroots/`);
  }

  /** Paths need not be there yet. What the daemon throws is thrown. */
  async hold(connection: DaemonConnection, attemptId: string, paths: Iterable<StorePath>): Promise<void> {
    if (this.#dir === "") return;
    const folder = join(this.#dir, attemptId);
    const links: string[] = [];
    try {
      await mkdir(folder, { recursive: true });
      for (const path of new Set(paths)) {
        const link = join(folder, storePathBaseName(path));
        await symlink(path, link);
        links.push(link);
      }
    } catch (error) {
      this.#report(error);
    }
    if (!this.#isDirect) for (const link of links) await connection.addIndirectRoot(link);
  }

  async release(attemptId: string): Promise<void> {
    if (this.#dir === "") return;
    try {
      await rm(join(this.#dir, attemptId), { recursive: true, force: true });
    } catch (error) {
      this.#report(error);
    }
  }

  #report(error: unknown): void {
    if (this.#reported) return;
    this.#reported = true;
    const message = "the folder for GC roots cannot be written: builds rely on their daemon connections";
    this.#log.warn(message, { folder: this.#dir, error });
  }
}

/**
 * Removes what attempts of an earlier run of this worker left behind. Only folders named after attempts are touched.
 * Call it before the first build; throws when the folder is there and cannot be changed.
 */
export async function clearGcRoots(dir: string): Promise<void> {
  if (dir === "") return;
  const names = await readdir(dir).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  for (const name of names.filter(isUuid)) await rm(join(dir, name), { recursive: true, force: true });
}
