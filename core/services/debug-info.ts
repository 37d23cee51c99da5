import type { Kysely } from "kysely";
import { findDebugNar, listUnlistedDebugNars } from "../db/nar-listings.ts";
import type { Database } from "../db/schema.ts";
import { fromHex } from "../lib/bytes.ts";
import { debugMember } from "../nix/debug-info.ts";
import type { Logger } from "../ports/logger.ts";
import { narFileUrl } from "./cache-path.ts";
import { narOf, sha256Of } from "./nar.ts";
import type { NarListings } from "./nar-listings.ts";

/** Where debuggers find the debug information of a build id, as `nix copy` writes it with `index-debug-info`. */
export interface DebugInfo {
  /** Relative to the folder `debuginfo` of the cache. */
  readonly archive: string;
  /** The file in that NAR. */
  readonly member: string;
}

/** Null when no path of the cache that was indexed has it. `buildId`: 40 hexadecimal digits. */
export async function lookUpDebugInfo(
  { db }: { readonly db: Kysely<Database> },
  { cacheId, buildId }: { readonly cacheId: string; readonly buildId: string },
): Promise<DebugInfo | null> {
  const nar = await findDebugNar(db, { cacheId, buildId: fromHex(buildId) ?? new Uint8Array() });
  return nar ? { archive: `../${narFileUrl(sha256Of(nar.file_hash))}`, member: debugMember(buildId) } : null;
}

export interface DebugIndexDeps {
  readonly db: Kysely<Database>;
  readonly log: Logger;
  readonly listings: NarListings;
}

const NARS_AT_A_TIME = 50;

/**
 * Lists the NARs of debug outputs (`…-debug`, as nixpkgs calls them) that came in since, so that their build ids are
 * found. What cannot be listed now is tried again by the next call. Several servers may do it at once.
 */
export async function indexDebugInfo({ db, log, listings }: DebugIndexDeps, signal: AbortSignal): Promise<void> {
  let after: Uint8Array = new Uint8Array();
  for (;;) {
    const rows = await listUnlistedDebugNars(db, { after, limit: NARS_AT_A_TIME });
    for (const row of rows) {
      if (signal.aborted) return;
      try {
        await listings.find(narOf(row));
      } catch (error) {
        log.warn("a NAR with debug information could not be listed yet", { error, objectKey: row.object_key });
      }
    }
    const last = rows.at(-1);
    if (!last) return;
    after = last.nar_hash;
  }
}
