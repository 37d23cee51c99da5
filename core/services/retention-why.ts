import type { WhyView } from "../api/caches-retention.ts";
import { naiveTime } from "../api/times.ts";
import { listPathStates, listReferrers } from "../db/path-removals.ts";
import { listOrganizationIdsOf } from "../db/realm-members.ts";
import { type FoundRoot, findRoots, type RootScope, readRootScope } from "../db/retention-roots.ts";
import type { Actor } from "../domain/actor.ts";
import { FRESH_PATH_MS } from "../domain/retention.ts";
import { DomainError } from "../errors.ts";
import { requireCache } from "./access.ts";
import { requirePathHash } from "./path-hash.ts";
import type { RetentionDeps } from "./retention-deps.ts";

type WhyDeps = Pick<RetentionDeps, "db" | "retention">;

/** Paths that are looked at in one step up, and at all: what more refer to is kept by one of these, or by luck. */
const STEP_MAX = 1_000;
const LOOKED_AT_MAX = 20_000;

/**
 * Why a path stays: the shortest chain of references from something that has a reason of its own. Evaluations and
 * builds of organizations that the reader does not belong to are not named.
 */
export async function explainPath(
  deps: WhyDeps,
  actor: Actor,
  { cacheName, path }: { readonly cacheName: string; readonly path: string },
): Promise<WhyView> {
  const { cache } = await requireCache(deps, actor, cacheName, "manageCacheSettings");
  const scope = await readRootScope(deps.db, cache.id);
  const start = await findName(deps, scope, requirePathHash(path, "path"));
  const parents = new Map<string, string | null>([[start, null]]);
  for (let step = [start]; step.length > 0 && parents.size < LOOKED_AT_MAX; ) {
    const found = await reasonAmong(deps, actor, scope, step);
    if (found) return { kept: true, ...found.reason, chain: chainTo(parents, found.storePath) };
    const above = await listReferrers(deps.db, scope, step, STEP_MAX);
    step = [];
    for (const { store_path, reference } of above) {
      if (parents.has(store_path)) continue;
      parents.set(store_path, reference);
      step.push(store_path);
    }
  }
  const [state] = await listPathStates(deps.db, scope, [start], { unusedMs: 0, freshMs: 0 });
  const limitless = deps.retention.unusedMs === 0;
  return {
    kept: limitless,
    reason: limitless ? "no_limit" : "none",
    subject: null,
    chain: [`/nix/store/${start}`],
    last_used_at: state ? naiveTime(state.last_used_at) : null,
  };
}

async function findName({ db }: WhyDeps, { cacheId }: RootScope, hash: string): Promise<string> {
  const row = await db
    .selectFrom("cache_path")
    .select("store_path")
    .where("cache_id", "=", cacheId)
    .where("hash", "=", hash)
    .executeTakeFirst();
  if (!row) throw new DomainError("not_found", "The cache has no such path");
  return row.store_path;
}

interface Reason {
  readonly storePath: string;
  readonly reason: Pick<WhyView, "reason" | "subject" | "last_used_at">;
}

async function reasonAmong(
  { db, retention }: WhyDeps,
  actor: Actor,
  scope: RootScope,
  storePaths: readonly string[],
): Promise<Reason | null> {
  const own = await ownOrganizations({ db }, actor, scope);
  const [named] = own.length > 0 ? await findRoots(db, { ...scope, organizationIds: own }, storePaths) : [];
  const [root] = named ? [named] : await findRoots(db, scope, storePaths);
  if (root) return reasonOf(root, named !== undefined || root.kind === "pin" ? root.label : null);
  const { unusedMs } = retention;
  const states = await listPathStates(db, scope, storePaths, { unusedMs, freshMs: FRESH_PATH_MS });
  const state = states.find(({ used, fresh }) => (used && unusedMs > 0) || fresh);
  if (!state) return null;
  const lastUsedAt = naiveTime(state.last_used_at);
  const reason = state.used && unusedMs > 0 ? "use" : "fresh";
  return { storePath: state.store_path, reason: { reason, subject: null, last_used_at: lastUsedAt } };
}

function reasonOf({ kind, store_path: storePath }: FoundRoot, subject: string | null): Reason {
  return { storePath, reason: { reason: kind, subject, last_used_at: null } };
}

/** Organizations among the cache's whose evaluations the actor may see. */
async function ownOrganizations({ db }: Pick<WhyDeps, "db">, actor: Actor, scope: RootScope): Promise<string[]> {
  if (!actor.user || actor.key?.cacheId) return [];
  const ids = await listOrganizationIdsOf(db, actor.user.id);
  const pinnedTo = actor.key?.organizationId ?? null;
  return scope.organizationIds.filter((id) => ids.includes(id) && (pinnedTo === null || pinnedTo === id));
}

function chainTo(parents: ReadonlyMap<string, string | null>, storePath: string): string[] {
  const chain: string[] = [];
  for (let at: string | null = storePath; at !== null; at = parents.get(at) ?? null) chain.unshift(`/nix/store/${at}`);
  return chain;
}
