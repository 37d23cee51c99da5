import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { inTransaction, type RetryPorts } from "../db/transaction.ts";
import { type CommitDeps, type CommitResult, commitPaths, type PathCommit } from "./cache-commit.ts";
import { MissingReferenceError } from "./cache-promote.ts";
import type { Upstreams } from "./upstreams.ts";

export interface RestingCommitDeps extends CommitDeps, RetryPorts {
  readonly db: Kysely<Database>;
  readonly upstreams: Upstreams;
}

/**
 * `commitPaths` in a transaction of its own. Where a reference is missing the upstreams of the caches, and of
 * `readable` ones, are asked for it once, so that what they have is recorded and counts. The way without upstreams
 * costs nothing.
 */
export async function commitResting(
  deps: RestingCommitDeps,
  commit: PathCommit,
  readable: readonly string[],
): Promise<CommitResult> {
  const once = () => inTransaction(deps.db, (trx) => commitPaths(trx, deps, commit), deps);
  try {
    return await once();
  } catch (error) {
    if (!(error instanceof MissingReferenceError)) throw error;
    const wanted = [...new Set([...commit.cacheIds, ...readable])];
    const references = commit.paths.flatMap((path) => path.references);
    let found = 0;
    // Each cache rests on its own upstreams: one that two caches share is recorded for both.
    for (const cacheId of wanted) found += (await deps.upstreams.find([cacheId], references)).found.size;
    if (found === 0) throw error;
    return await once();
  }
}
