import type { Kysely } from "kysely";
import {
  listCachesResting,
  type MarkedPath,
  markReferrersIncomplete,
  unmarkCompletePaths,
} from "../db/incomplete-paths.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { missReferrers, recordUpstreamAnswers } from "../db/upstream-paths.ts";
import { listSameUpstreams } from "../db/upstreams.ts";
import { storePathBaseName, storePathHash } from "../nix/store-path.ts";
import type { Logger } from "../ports/logger.ts";
import type { Notifier } from "../ports/notifier.ts";
import type { RemotePath } from "./upstream.ts";

export interface UpstreamLossDeps {
  readonly db: Kysely<Database>;
  readonly log: Logger;
  readonly notifier: Notifier;
}

/**
 * The upstream has the path no more, for whichever cache rests on it: nobody is sent there for it before the next
 * look-up, nor for what refers to it there. Paths of our own caches that refer to it and have it from nowhere else are
 * not offered either, until they can have it again; what builds expected of them is found lost by `loseSuspects`.
 */
export async function loseUpstreamPath(
  deps: UpstreamLossDeps,
  { upstream, info }: RemotePath,
  reason: string,
): Promise<void> {
  const { db, log } = deps;
  const { storePath } = info;
  const hash = storePathHash(storePath);
  const same = await listSameUpstreams(db, { id: upstream.id, hash });
  await recordUpstreamAnswers(
    db,
    same.map(({ id }) => ({ upstream_id: id, hash })),
  );
  const lost = new Set([storePathBaseName(storePath)]);
  for (const { id } of same) {
    for (let round = [...lost]; round.length > 0; ) {
      round = await missReferrers(db, id, round);
      for (const name of round) lost.add(name);
    }
  }
  const upstreamIds = same.map(({ id }) => id);
  const incomplete = await markIncomplete(deps, upstreamIds, [...lost]);
  // What was answered for the upstream is remembered, too.
  for (const { cache_id } of same) {
    for (const name of lost) deps.notifier.notify("path", `${cache_id}/${name.slice(0, hash.length)}`);
  }
  const referrers = lost.size - 1;
  log.warn("an upstream has lost a path", { upstream: upstream.url, path: storePath, reason, referrers, incomplete });
}

async function markIncomplete(
  deps: UpstreamLossDeps,
  upstreamIds: readonly string[],
  lost: readonly string[],
): Promise<number> {
  const cacheIds = await listCachesResting(deps.db, upstreamIds);
  let count = 0;
  for (let round = lost; round.length > 0; ) {
    const marked = await inTransaction(deps.db, (trx) => markReferrersIncomplete(trx, cacheIds, round));
    announceMarked(deps, marked);
    count += marked.length;
    round = [...new Set(marked.map(({ store_path }) => store_path))];
  }
  return count;
}

/**
 * Offers again what has got back what it lacked. To be called from time to time; it costs one look at an index where
 * nothing is marked.
 */
export async function unmarkComplete(deps: UpstreamLossDeps): Promise<void> {
  for (;;) {
    const unmarked = await inTransaction(deps.db, unmarkCompletePaths);
    if (unmarked.length === 0) return;
    announceMarked(deps, unmarked);
    deps.log.info("paths are offered again: what they refer to is back", { paths: unmarked.length });
  }
}

/** No server goes on answering with what these paths were before. */
export function announceMarked({ notifier }: Pick<UpstreamLossDeps, "notifier">, paths: readonly MarkedPath[]): void {
  for (const { cache_id, hash } of paths) notifier.notify("path", `${cache_id}/${hash}`);
}
