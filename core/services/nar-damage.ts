import type { Kysely } from "kysely";
import { listPathsOfNar, markNarDamaged } from "../db/nars.ts";
import type { Database } from "../db/schema.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { Nar } from "./nar.ts";

export interface NarDamageDeps {
  readonly db: Kysely<Database>;
  readonly notifier: Notifier;
  readonly log: Logger;
}

/**
 * Takes a NAR out of service because its object is gone or is not what it was. From the commit on no narinfo and no
 * file name leads to it, on every server, until the same NAR is stored again. Never throws: whoever found the damage
 * has an answer to end, and when the mark cannot be made now the next reader makes it.
 */
export async function reportDamage(deps: NarDamageDeps, nar: Nar, reason: string): Promise<void> {
  const fields = { narHash: formatHash(nar.narHash, "nix32"), objectKey: nar.objectKey, reason };
  try {
    const marked = await markNarDamaged(deps.db, { narHash: nar.narHash.digest, objectKey: nar.objectKey });
    if (marked) deps.log.error("a stored NAR is damaged and was taken out of service", fields);
    await announceNarPaths(deps, nar.narHash);
  } catch (error) {
    deps.log.error("a stored NAR is damaged and could not be taken out of service", { ...fields, error });
  }
}

/** Tells every server to look again at the paths that are served from this NAR. */
export async function announceNarPaths(
  { db, notifier }: Pick<NarDamageDeps, "db" | "notifier">,
  narHash: Hash,
): Promise<void> {
  for (const path of await listPathsOfNar(db, narHash.digest)) notifier.notify("path", `${path.cache_id}/${path.hash}`);
}
