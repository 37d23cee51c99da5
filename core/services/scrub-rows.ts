import type { NarRow } from "../db/schema.ts";
import { listNarsByKey, readRowPass, recordRowPass } from "../db/scrub-rows.ts";
import { DAY } from "../lib/clock.ts";
import type { BlobStore, ObjectPage } from "../ports/blob-store.ts";
import { narOf } from "./nar.ts";
import { isNarStored, type NarOpenDeps } from "./nar-open.ts";
import { requireRightStore } from "./right-store.ts";

export interface RowScrubDeps extends NarOpenDeps {
  readonly blobs: BlobStore;
}

const PREFIX = "nar/";
/** Above each key of `PREFIX` that a store may list, and below every other. */
const ROWS_MAX = 1_000;
const PASS_INTERVAL_MS: number = DAY;

export interface RowFindings {
  readonly nars: number;
  readonly damaged: number;
}

/** Once a day. Returns what was found when a pass has ended by this, else null. */
export async function scrubRowsDaily(deps: RowScrubDeps, signal: AbortSignal): Promise<RowFindings | null> {
  const { after, finishedAgoMs } = await readRowPass(deps.db);
  const isDue = after !== null || finishedAgoMs === null || finishedAgoMs >= PASS_INTERVAL_MS;
  return isDue ? await scrubRows(deps, signal) : null;
}

/**
 * Compares the rows of NARs with what the store lists: an object that is not there, or has another size, is taken out
 * of service. A listing costs a thousandth of reading, so it finds losses long before the scrub would. It goes on where
 * it was when it was stopped. Throws `StorageFailedError` when the store seems not to be the one that the rows speak
 * of, before anything is taken away.
 */
export async function scrubRows(deps: RowScrubDeps, signal: AbortSignal): Promise<RowFindings | null> {
  const pass = await readRowPass(deps.db);
  let after = pass.after ?? PREFIX;
  let nars = 0;
  let damaged = 0;
  for (;;) {
    const page: ObjectPage = await deps.blobs.list(PREFIX, after === PREFIX ? undefined : after);
    const upTo = page.next === null ? null : (page.objects.at(-1)?.key ?? null);
    const sizes = new Map(page.objects.map(({ key, size }) => [key, size]));
    for await (const row of rowsWithin(deps, after, upTo)) {
      if (signal.aborted) return null;
      nars++;
      if (sizes.get(row.object_key) !== row.file_size && !(await isThereNow(deps, row))) damaged++;
    }
    await recordRowPass(deps.db, upTo);
    if (upTo === null) return { nars, damaged };
    after = upTo;
    if (signal.aborted) return null;
  }
}

async function* rowsWithin({ db }: RowScrubDeps, after: string, upTo: string | null): AsyncGenerator<NarRow> {
  for (let from = after; ; ) {
    const part = await listNarsByKey(db, { after: from, upTo, limit: ROWS_MAX });
    yield* part;
    if (part.length < ROWS_MAX) return;
    from = part.at(-1)?.object_key as string;
  }
}

/** It may have come or gone since the page was made: this looks at the object itself. */
async function isThereNow(deps: RowScrubDeps, row: NarRow): Promise<boolean> {
  if (!(await deps.blobs.head(row.object_key))) await requireRightStore(deps);
  return await isNarStored(deps, narOf(row));
}
