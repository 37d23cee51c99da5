import type { Selectable } from "kysely";
import type { StateCache } from "../api/state.ts";
import { insertCache } from "../db/caches.ts";
import type { CacheTable } from "../db/schema.ts";
import { releasePartsOf } from "../db/state-caches.ts";
import { releaseMembersOf } from "../db/state-members.ts";
import { deleteManaged, lockStateCaches, releaseManaged, updateManaged } from "../db/state-rows.ts";
import { listCachesRestingOn } from "../db/upstreams.ts";
import { makeCacheKey, sealCacheKey } from "./cache-key.ts";
import { declaredKey, reconcileCacheKey } from "./state-cache-keys.ts";
import { reconcileCacheRoles } from "./state-cache-roles.ts";
import { differences, isEmpty, type StateContext, warnOfMembers } from "./state-context.ts";
import { reconcileSubscriptions } from "./state-subscriptions.ts";
import { reconcileUpstreams } from "./state-upstreams.ts";

type Row = Selectable<CacheTable>;

/** With their keys, roles, members and subscriptions; and when all of them are there, with what they rest on. */
export async function reconcileCaches(context: StateContext): Promise<void> {
  const { document, trx } = context;
  const rows = await lockStateCaches(
    trx,
    document.caches.map(({ name }) => name),
  );
  const known = new Map(rows.map((row) => [row.name, row]));
  for (const cache of document.caches) {
    const row = known.get(cache.name);
    const id = row ? await changeCache(context, cache, row) : await makeCache(context, cache);
    context.cacheIds.set(cache.name, id);
    await reconcileCacheRoles(context, cache, id);
    await reconcileSubscriptions(context, cache, id);
  }
  for (const cache of document.caches) await reconcileUpstreams(context, cache, context.cacheId(cache.name));
}

/** With every path in them. */
export async function removeCaches(context: StateContext): Promise<void> {
  const { document, options, trx } = context;
  const declared = new Set(document.caches.map(({ name }) => name));
  const leaving = (await lockStateCaches(trx, [])).filter(({ name }) => !declared.has(name ?? ""));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) {
    for (const id of ids) {
      for (const resting of [id, ...(await listCachesRestingOn(trx, id))]) context.staleCaches.add(resting);
    }
    await deleteManaged(trx, "cache", ids);
  } else {
    await releaseManaged(trx, "cache", ids);
    for (const id of ids) {
      await releaseMembersOf(trx, "cache", id);
      await releasePartsOf(trx, id);
    }
  }
  for (const { name } of leaving) context.note(options.deleteUnlisted ? "deleted" : "released", `cache ${name}`);
}

async function makeCache(context: StateContext, cache: StateCache): Promise<string> {
  const { trx, deps } = context;
  const id = context.newId();
  const key = declaredKey(context, cache);
  await insertCache(trx, {
    id,
    name: cache.name,
    managed: true,
    created_by: context.userId(cache.created_by),
    ...columnsOf(cache),
    ...(key ? await sealCacheKey(deps, id, key) : await makeCacheKey(deps, id, cache.name)),
  });
  context.note("created", `cache ${cache.name}`);
  return id;
}

async function changeCache(context: StateContext, cache: StateCache, row: Row): Promise<string> {
  const created_by = context.userId(cache.created_by);
  const author = created_by === null ? {} : { created_by };
  const changes = differences(row, { ...columnsOf(cache), ...author, managed: true });
  const keyChanged = await reconcileCacheKey(context, cache, row.id);
  if (isEmpty(changes) && !keyChanged) return row.id;
  if (!isEmpty(changes)) await updateManaged(context.trx, "cache", row.id, changes);
  for (const id of [row.id, ...(await listCachesRestingOn(context.trx, row.id))]) context.staleCaches.add(id);
  if (!row.managed && cache.members.length === 0) warnOfMembers(context, `cache ${cache.name}`);
  context.note(row.managed ? "changed" : "taken over", `cache ${cache.name}`);
  return row.id;
}

function columnsOf(cache: StateCache) {
  const { display_name, description, active, priority, max_storage_gb, pull_through } = cache;
  return {
    display_name,
    description,
    active,
    public: cache.public,
    priority,
    local_priority: cache.local_priority ?? null,
    max_storage_gb,
    pull_through,
  };
}
