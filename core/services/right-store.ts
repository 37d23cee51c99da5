import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { listScatteredObjects } from "../db/scrub-rows.ts";
import type { BlobStore } from "../ports/blob-store.ts";

/** The store fails for every object: what it holds is not known. */
export class StorageFailedError extends Error {
  override readonly name = "StorageFailedError";
}

/** Where fewer are stored, all of them may well be lost. */
const SAMPLE = 20;

/**
 * To be asked before an object that is missing counts as lost: a folder that was not mounted, or the wrong bucket, must
 * not take everything out of service and have it rebuilt. Throws `StorageFailedError` when of objects from all over the
 * store none is there.
 */
export async function requireRightStore({
  db,
  blobs,
}: {
  readonly db: Kysely<Database>;
  readonly blobs: BlobStore;
}): Promise<void> {
  const keys = await listScatteredObjects(db, SAMPLE);
  if (keys.length < SAMPLE) return;
  for (const key of keys) if (await blobs.head(key)) return;
  const found = `none of ${keys.length} objects from all over it is there`;
  throw new StorageFailedError(`${found}: is the storage mounted, and is it the right bucket?`);
}
