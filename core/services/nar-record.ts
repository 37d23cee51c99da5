import type { Transaction } from "kysely";
import { insertNarFile, insertNars, lockNarsForUpdate, type NewNar, replaceNarObject } from "../db/nars.ts";
import { claimNars } from "../db/retention-nars.ts";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import { type Nar, narOf, sha256Of } from "./nar.ts";
import { announceNarPaths, type NarDamageDeps } from "./nar-damage.ts";

/** What recording NARs leaves to do once it is committed. */
export interface RecordedNars {
  /** By the hexadecimal digits of their hashes: the NARs as they are served from now on. */
  readonly nars: ReadonlyMap<string, Nar>;
  /** Objects that no row names now. */
  readonly superfluousKeys: readonly string[];
  /** Hashes of NARs that were damaged. */
  readonly healed: readonly Uint8Array[];
}

export interface NarRecordDeps extends NarDamageDeps {
  readonly blobs: BlobStore;
  readonly notifier: Notifier;
  readonly log: Logger;
}

/**
 * Makes NARs of objects that are durable and proven. First come, first kept: the object in use is only replaced when it
 * is damaged. The rows stay as they are until the transaction ends. The same NAR may be among `candidates` twice.
 */
export async function recordNars(trx: Transaction<Database>, candidates: readonly NewNar[]): Promise<RecordedNars> {
  const chosen = new Map<string, NewNar>();
  const superfluousKeys: string[] = [];
  for (const candidate of candidates) {
    const hash = toHex(candidate.nar_hash);
    if (chosen.has(hash)) superfluousKeys.push(candidate.object_key);
    else chosen.set(hash, candidate);
  }
  const ordered = [...chosen].sort(([a], [b]) => (a < b ? -1 : 1));
  const added = new Set(
    (
      await insertNars(
        trx,
        ordered.map(([, nar]) => nar),
      )
    ).map(toHex),
  );
  const nars = new Map(ordered.map(([hash, nar]) => [hash, narOf(nar)]));
  const healed: Uint8Array[] = [];
  const others = ordered.filter(([hash]) => !added.has(hash)).map(([, nar]) => nar);
  const rows =
    others.length > 0
      ? await lockNarsForUpdate(
          trx,
          others.map((nar) => nar.nar_hash),
        )
      : [];
  const present = new Map(rows.map((row) => [toHex(row.nar_hash), row]));
  if (rows.length > 0)
    await claimNars(
      trx,
      rows.map((row) => row.nar_hash),
    );
  for (const nar of others) {
    const hash = toHex(nar.nar_hash);
    const row = present.get(hash);
    if (!row) throw new DomainError("conflict", "the NAR was removed while it was stored: send it again");
    superfluousKeys.push(row.damaged_at ? row.object_key : nar.object_key);
    nars.set(hash, narOf(row.damaged_at ? nar : row));
    if (!row.damaged_at) continue;
    await replaceNarObject(trx, nar);
    await insertNarFile(trx, nar.file_hash, nar.nar_hash);
    healed.push(nar.nar_hash);
  }
  return { nars, superfluousKeys, healed };
}

/** To be called after the commit. Never throws. */
export async function settleRecorded(
  deps: NarRecordDeps,
  { superfluousKeys, healed }: Pick<RecordedNars, "superfluousKeys" | "healed">,
): Promise<void> {
  for (const key of superfluousKeys) await discardObject(deps, key);
  for (const hash of healed) await announceNarPaths(deps, sha256Of(hash));
}

/** For an object that no row names, and that none can come to name. */
export async function discardObject({ blobs, log }: Pick<NarRecordDeps, "blobs" | "log">, key: string): Promise<void> {
  try {
    await blobs.delete(key);
  } catch (error) {
    log.warn("a superfluous object was not deleted and stays in the store", { key, error });
  }
}
