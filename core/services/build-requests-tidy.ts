import { deleteExpiredRequests } from "../db/build-requests.ts";
import { deleteUnusedBlobs } from "../db/source-blobs.ts";
import { listStaleUploads } from "../db/source-uploads.ts";
import { DAY, HOUR } from "../lib/clock.ts";
import type { BuildRequestDeps } from "./build-requests-deps.ts";
import { dropSourceUpload } from "./build-requests-upload.ts";

/** Longer than any request lives: contents that one counted on stay until its end. */
const BLOB_UNUSED_MS: number = DAY;
const UPLOAD_UNUSED_MS: number = 6 * HOUR;
const BATCH = 500;

/** Forgets requests, contents and uploads whose time is over; returns whether there may be more. Rows go first. */
export async function tidyBuildRequests(deps: Pick<BuildRequestDeps, "db" | "blobs">): Promise<boolean> {
  const requests = await deleteExpiredRequests(deps.db, BATCH);
  const keys = await deleteUnusedBlobs(deps.db, { unusedMs: BLOB_UNUSED_MS, limit: BATCH });
  for (const key of keys) await deps.blobs.delete(key);
  const uploads = await listStaleUploads(deps.db, { unusedMs: UPLOAD_UNUSED_MS, limit: BATCH });
  for (const id of uploads) await dropSourceUpload(deps, id);
  return Math.max(requests, keys.length, uploads.length) === BATCH;
}
