import { markReferrersIncomplete } from "../db/incomplete-paths.ts";
import { type DamagedReference, listDamagedReferences } from "../db/nar-repairs.ts";
import { inTransaction } from "../db/transaction.ts";
import { announceMarked, type UpstreamLossDeps } from "./upstream-losses.ts";

const PAGE = 1_000;

/**
 * What refers to a damaged path, directly or not, and has it from nowhere else, is not offered until it can be had
 * again (`unmarkComplete`): nobody gets half a closure. To be called whenever a NAR was found damaged, and from time to
 * time: what a crash left is made up for. Returns how many paths were taken out of service.
 */
export async function withholdReferrers(deps: UpstreamLossDeps): Promise<number> {
  const { db, log } = deps;
  let withheld = 0;
  for (let after: DamagedReference | null = null; ; ) {
    const page: DamagedReference[] = await listDamagedReferences(db, { after, limit: PAGE });
    for (const [cacheId, paths] of Map.groupBy(page, ({ cache_id }) => cache_id)) {
      for (let round = paths.map(({ store_path }) => store_path); round.length > 0; ) {
        const marked = await inTransaction(db, (trx) => markReferrersIncomplete(trx, [cacheId], round));
        announceMarked(deps, marked);
        withheld += marked.length;
        round = marked.map(({ store_path }) => store_path);
      }
    }
    after = page.at(-1) ?? null;
    if (page.length < PAGE) break;
  }
  if (withheld > 0) log.warn("paths are not offered while what they refer to is damaged", { paths: withheld });
  return withheld;
}
