import type { Kysely } from "kysely";
import { markNarDamaged } from "../db/nar-health.ts";
import { listPathsOfNar } from "../db/nars.ts";
import type { Database } from "../db/schema.ts";
import type { NarFault } from "../domain/nar-health.ts";
import { toHex } from "../lib/bytes.ts";
import { formatHash, type Hash } from "../nix/hash.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { Nar } from "./nar.ts";

export interface NarDamageDeps {
  readonly db: Kysely<Database>;
  readonly notifier: Notifier;
  readonly log: Logger;
  /** Told of each stored file that was read to its end and was right. Absent: each is proven each time. */
  readonly proofs?: NarProofs;
}

/** Both cost next to nothing and never throw. */
export interface NarProofs {
  /** `imprint`: that of the object that was read. */
  proven(nar: Nar, imprint: string | undefined): void;
  /** Whether the object was proven not long ago, and nobody has written to it since. */
  stands(nar: Nar, imprint: string): boolean;
}

export interface NarDamage {
  readonly fault: NarFault;
  /** For the operator. */
  readonly message: string;
}

/**
 * Takes a NAR out of service because its object is gone or is not what it was. From the commit on no narinfo and no
 * file name leads to it, on every server, until it is repaired or the same NAR is stored again. Never throws: whoever
 * found the damage has an answer to end, and when the mark cannot be made now the next reader makes it. True when this
 * has taken it out of service; false for an object that was marked before, or is not the NAR's any more.
 */
export async function reportDamage(deps: NarDamageDeps, nar: Nar, damage: NarDamage): Promise<boolean> {
  const fields = { narHash: formatHash(nar.narHash, "nix32"), objectKey: nar.objectKey, reason: damage.message };
  try {
    const object = { narHash: nar.narHash.digest, objectKey: nar.objectKey };
    const marked = await markNarDamaged(deps.db, object, damage);
    if (marked) deps.log.error("a stored NAR is damaged and was taken out of service", fields);
    await announceNarPaths(deps, nar.narHash);
    return marked;
  } catch (error) {
    deps.log.error("a stored NAR is damaged and could not be taken out of service", { ...fields, error });
    return false;
  }
}

/** Tells every server to look again at the paths that are served from this NAR, and at what refers to them. */
export async function announceNarPaths(
  { db, notifier }: Pick<NarDamageDeps, "db" | "notifier">,
  narHash: Hash,
): Promise<void> {
  for (const path of await listPathsOfNar(db, narHash.digest)) notifier.notify("path", `${path.cache_id}/${path.hash}`);
  notifier.notify("damage", toHex(narHash.digest));
}
