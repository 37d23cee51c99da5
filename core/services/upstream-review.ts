import { UPSTREAM_HOURS_MAX } from "../api/board-upstreams.ts";
import { listLackingReferences, markInternallyIncomplete } from "../db/incomplete-paths.ts";
import { inTransaction } from "../db/transaction.ts";
import { deleteOldUpstreamCounts } from "../db/upstream-metrics.ts";
import { deleteStaleAnswers } from "../db/upstream-paths.ts";
import { storedPath } from "./cache-path.ts";
import { announceMarked, type UpstreamLossDeps, unmarkComplete } from "./upstream-losses.ts";
import type { Upstreams } from "./upstreams.ts";

const LACKING_MAX = 1_000;

/** Removes what counts no more, and reviews what is marked incomplete. To be called once an hour. */
export async function tidyUpstreams(deps: UpstreamLossDeps, upstreams: Upstreams): Promise<void> {
  await deleteStaleAnswers(deps.db);
  await deleteOldUpstreamCounts(deps.db, UPSTREAM_HOURS_MAX);
  await reviewIncomplete(deps, upstreams);
}

/** Asks again for what is lacking, and looks at what rests on other caches of this server. */
async function reviewIncomplete(deps: UpstreamLossDeps, upstreams: Upstreams): Promise<void> {
  for (;;) {
    const marked = await inTransaction(deps.db, markInternallyIncomplete);
    if (marked.length === 0) break;
    announceMarked(deps, marked);
    deps.log.warn("paths are not offered: another cache of this server has lost what they refer to", {
      paths: marked.length,
    });
  }
  const lacking = await listLackingReferences(deps.db, LACKING_MAX);
  for (const [cacheId, rows] of Map.groupBy(lacking, ({ cache_id }) => cache_id)) {
    await upstreams.find(
      [cacheId],
      rows.map(({ store_path }) => storedPath(store_path)),
    );
  }
  await unmarkComplete(deps);
}
