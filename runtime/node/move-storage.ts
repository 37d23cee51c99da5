import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "#core/ports/logger.ts";
import { isObjectKey } from "#core/ports/object-key.ts";
import type { Config } from "./config.ts";
import { hasCode, writeFileAtomically } from "./files.ts";
import { openBothStorages } from "./storage.ts";
import { deleteMoved, moveObjects } from "./storage-move.ts";

export interface MoveOptions {
  /** Frees the store that is moved from, when everything has arrived. */
  readonly deleteOld: boolean;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/**
 * `gradient-server migrate-storage`: copies every object to the store that the configuration names as the one to move
 * to, beside a running server with the same configuration. Ended at any moment, it goes on where it was. True when
 * everything is in place.
 */
export async function moveStorage(config: Config, { deleteOld, log, signal }: MoveOptions): Promise<boolean> {
  const { from, to } = await openBothStorages(config);
  const journal = new Journal(join(config.basePath, "storage-move.json"), config.storage.movingTo);
  try {
    const result = await moveObjects({
      from: from.blobs,
      to: to.blobs,
      signal,
      proven: await journal.read(),
      arrived: (key) => journal.write(key),
      failed: (key, error) => log.error("an object was not moved", { key, error }),
    });
    const isWhole = result.failed === 0 && !signal.aborted;
    log.info(isWhole ? "every object is in place" : "not every object is in place yet: run it again", { ...result });
    if (isWhole && deleteOld) {
      const deleted = await deleteMoved({ from: from.blobs, to: to.blobs, signal });
      log.info("objects were deleted where they are not needed any more", { deleted });
    }
    return isWhole;
  } finally {
    from.close();
    to.close();
  }
}

/** Remembers in a file how far a move has come; of a move to somewhere else it knows nothing. */
class Journal {
  readonly #path: string;
  readonly #target: string | null;

  constructor(path: string, target: string | null) {
    this.#path = path;
    this.#target = target;
  }

  async read(): Promise<string | null> {
    try {
      const { to, proven } = JSON.parse(await readFile(this.#path, "utf8")) as { to?: unknown; proven?: unknown };
      return to === this.#target && typeof proven === "string" && isObjectKey(proven) ? proven : null;
    } catch (error) {
      // A journal that cannot be read costs that what was copied is proven again.
      if (hasCode(error, "ENOENT") || error instanceof SyntaxError) return null;
      throw error;
    }
  }

  async write(proven: string): Promise<void> {
    await writeFileAtomically(this.#path, `${JSON.stringify({ to: this.#target, proven })}\n`, 0o600);
  }
}
