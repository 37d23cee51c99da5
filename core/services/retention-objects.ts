import { forgetMark } from "../db/retention-marks.ts";
import {
  discardOrphanObjects,
  forgetDiscarded,
  listDiscardedObjects,
  noteOrphanObjects,
  OBJECT_PREFIXES,
} from "../db/retention-objects.ts";
import { MINUTE } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { RetentionDeps } from "./retention-deps.ts";

/** Downloads that have begun, and URLs that were given out a moment ago, come to their end. */
const REST_MS: number = 10 * MINUTE;
const BATCH = 200;
/** A share of objects without a row that no run of ours leaves behind, unless there are only a few. */
const ORPHANS_SHARE_MAX = 0.5;
const ORPHANS_FEW = 1_000;

/** Deletes objects whose rows are gone; returns whether there may be more. What fails is tried again the next time. */
export async function deleteDiscardedObjects(
  { db, blobs, log }: Pick<RetentionDeps, "db" | "blobs" | "log">,
  { restMs = REST_MS }: { readonly restMs?: number } = {},
): Promise<{ readonly objects: number; readonly more: boolean }> {
  const keys = await listDiscardedObjects(db, { restMs, limit: BATCH });
  const deleted: string[] = [];
  const failed: { readonly key: string; readonly error: unknown }[] = [];
  for (const key of keys) {
    try {
      await blobs.delete(key);
      deleted.push(key);
    } catch (error) {
      failed.push({ key, error });
    }
  }
  if (failed[0]) log.warn("objects that are not needed were not deleted yet", { objects: failed.length, ...failed[0] });
  if (deleted.length > 0) await forgetDiscarded(db, deleted);
  return { objects: deleted.length, more: keys.length === BATCH && deleted.length > 0 };
}

export interface OrphanSweep extends Record<string, number> {
  readonly objects: number;
  readonly orphans: number;
}

/**
 * Lists the store and discards the objects that no row names and that are older than the grace: what a crash left
 * between an object and its row. Where most objects are nobody's it discards none, and says so: a database that was
 * set up anew beside an old store must not cost the store. `force` takes them nevertheless.
 */
export async function sweepOrphanObjects(
  deps: RetentionDeps,
  signal: AbortSignal,
  { force = false }: { readonly force?: boolean } = {},
): Promise<OrphanSweep> {
  const { db, blobs, clock, retention, log } = deps;
  const markId = uuidV7(clock.now(), deps.random);
  let [objects, noted] = [0, 0];
  try {
    for (const prefix of OBJECT_PREFIXES) {
      let after: string | undefined;
      do {
        if (signal.aborted) return { objects, orphans: 0 };
        const page = await blobs.list(prefix, after);
        const old = page.objects.filter(({ storedAt }) => clock.now() - storedAt.getTime() > retention.uploadGraceMs);
        objects += page.objects.length;
        if (old.length > 0)
          noted += await noteOrphanObjects(
            db,
            markId,
            old.map(({ key }) => key),
          );
        after = page.next ?? undefined;
      } while (after !== undefined);
    }
    if (!force && noted > ORPHANS_FEW && noted > objects * ORPHANS_SHARE_MAX) {
      log.error(
        "most objects of the storage are in no row of this database, so none was deleted: is it the right one?",
        {
          objects,
          orphans: noted,
        },
      );
      return { objects, orphans: 0 };
    }
    return { objects, orphans: noted > 0 ? await discardOrphanObjects(db, markId) : 0 };
  } finally {
    await forgetMark(db, markId);
  }
}
