import { listStaleNarUploads } from "../db/nar-uploads.ts";
import { deleteOldSentNars } from "../db/sent-nars.ts";
import { DAY } from "../lib/clock.ts";
import type { UploadDeps } from "./cache-upload.ts";
import { dropNarUpload } from "./cache-upload-parts.ts";

/** A push of a closure is over by then, or is begun anew. */
const SENT_KEPT_MS = DAY;
/** Uploads that the storage knows and no row names: of a server that died between the two. */
const ABANDONED_MS: number = 7 * DAY;
const BATCH = 500;

export interface TidyLimits {
  /** Uploads in parts that nobody went on with for so long; 0: they stay. */
  readonly unfinishedMs: number;
  readonly sentKeptMs?: number;
}

/**
 * Forgets uploads that nobody goes on with, and who sent the NARs that no path came to name; returns whether there may
 * be more. The NARs themselves go with the sweep. Rows go first.
 */
export async function tidyUploads(
  deps: Pick<UploadDeps, "db" | "blobs" | "log">,
  { unfinishedMs, sentKeptMs = SENT_KEPT_MS }: TidyLimits,
): Promise<boolean> {
  const stale = unfinishedMs > 0 ? await listStaleNarUploads(deps.db, { unusedMs: unfinishedMs, limit: BATCH }) : [];
  for (const upload of stale) await dropNarUpload(deps, upload);
  const sent = await deleteOldSentNars(deps.db, { keptMs: sentKeptMs, limit: BATCH });
  return Math.max(stale.length, sent) === BATCH;
}

/** Drops what the storage holds of uploads into it that were begun long ago and have no row. */
export async function dropAbandonedUploads({ blobs, clock }: Pick<UploadDeps, "blobs" | "clock">): Promise<number> {
  const before = new Date(clock.now() - ABANDONED_MS);
  return (await blobs.presigned?.dropAbandonedParts("", before)) ?? 0;
}
