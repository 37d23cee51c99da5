import type { CacheView, ChangeCacheBody, CreateCacheBody } from "../api/caches.ts";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { naiveTime } from "../api/times.ts";
import {
  type CacheChanges,
  type CacheView as CacheRowView,
  cacheExists,
  countCachesOfMember,
  deleteCache as deleteCacheRow,
  insertCache,
  listCachesOfMember,
  listPublicCaches,
  updateCache,
} from "../db/caches.ts";
import { insertMemberOf } from "../db/realm-members.ts";
import { CACHE_TABLES, lockRealm } from "../db/realms.ts";
import { inTransaction } from "../db/transaction.ts";
import { insertUpstream, listCachesRestingOn } from "../db/upstreams.ts";
import { uniqueViolation } from "../db/violations.ts";
import { cacheMaskOfKey } from "../domain/access.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { isAddressableSlug, requireAddressableSlug, requireDisplayName } from "../domain/names.ts";
import { allowsCache, CACHE_ROLE } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireCache } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import { makeCacheKey } from "./cache-key.ts";
import { FIRST_UPSTREAM } from "./caches-upstreams.ts";
import { requireCreator } from "./creation-gate.ts";
import type { ServiceDeps } from "./deps.ts";

/** Public caches come without pages. */
const PUBLIC_MAX = 1_000;

export async function listCaches(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  query: PageQuery,
): Promise<Page<CacheView>> {
  const user = requireUser(actor);
  const keyMask = cacheMaskOfKey(actor.key);
  if (!allowsCache(keyMask, "viewCache")) return { items: [], total: 0, ...query };
  const scope = {
    userId: user.id,
    organizationId: actor.key?.organizationId ?? null,
    cacheId: actor.key?.cacheId ?? null,
  };
  const rows = await listCachesOfMember(db, scope, pageWindow(query));
  const items = rows.map((row) => viewCache(row, (row.role_permissions ?? 0) & keyMask));
  return { items, total: await countCachesOfMember(db, scope), ...query };
}

export async function listAllPublicCaches({ db }: Pick<ServiceDeps, "db">): Promise<CacheView[]> {
  return (await listPublicCaches(db, PUBLIC_MAX)).map((row) => viewCache(row, 0));
}

/** False also for what no cache may be called. */
export async function isCacheNameFree({ db }: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<boolean> {
  requireUser(actor);
  return isAddressableSlug(name) && !(await cacheExists(db, name));
}

export async function getCache(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<CacheView> {
  const { cache, mask } = await requireCache(deps, actor, name, "read");
  return viewCache(cache, mask);
}

/** `<host>-<cache>:<base64>`, for `trusted-public-keys`. */
export async function getCachePublicKey(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<string> {
  return (await requireCache(deps, actor, name, "read")).cache.public_key;
}

/** Its id. The cache comes with a signing key, with its creator as Admin, and with cache.nixos.org as upstream. */
export async function createCache(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "secrets" | "settings">,
  actor: Actor,
  body: CreateCacheBody,
): Promise<string> {
  const creator = requireCreator(actor, deps.settings.createCache, "caches");
  const name = requireAddressableSlug(body.name, "name");
  const id = uuidV7(deps.clock.now(), deps.random);
  const cache = {
    id,
    name,
    display_name: requireDisplayName(body.display_name, "display_name"),
    description: body.description,
    public: body.public,
    priority: body.priority,
    local_priority: body.local_priority ?? null,
    max_storage_gb: body.max_storage_gb,
    pull_through: body.pull_through,
    created_by: creator.id,
    ...(await makeCacheKey(deps, id, name)),
  };
  await inTransaction(deps.db, async (trx) => {
    await insertCache(trx, cache);
    await insertMemberOf(trx, { tables: CACHE_TABLES, id }, { userId: creator.id, roleId: CACHE_ROLE.Admin });
    await insertUpstream(trx, { id: uuidV7(deps.clock.now(), deps.random), cache_id: id, ...FIRST_UPSTREAM });
    const metadata = { cache: name, public: body.public };
    await recordAudit(trx, { ...auditAuthor(actor), event: "cache.create", cacheId: id, metadata });
  }).catch(nameTaken);
  return id;
}

/** Its id. The signing key keeps its name: what was signed stays signed. */
export async function changeCache(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  name: string,
  body: ChangeCacheBody,
): Promise<string> {
  const changes: CacheChanges = {};
  const { cache } = await requireCache(deps, actor, name, "manageCacheSettings", { unmanaged: true });
  if (body.name !== undefined) changes.name = requireAddressableSlug(body.name, "name");
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.description !== undefined) changes.description = body.description;
  if (body.priority !== undefined) changes.priority = body.priority;
  if (body.local_priority === null) {
    throw new DomainError("validation", "local_priority: must be a whole number; 0 turns it off");
  }
  if (body.local_priority !== undefined) changes.local_priority = body.local_priority;
  if (body.max_storage_gb !== undefined) changes.max_storage_gb = body.max_storage_gb;
  if (body.pull_through !== undefined) changes.pull_through = body.pull_through;
  await inTransaction(deps.db, async (trx) => {
    await updateCache(trx, cache.id, changes);
    const changed = Object.keys(changes);
    const metadata = { cache: cache.name, changed, ...(changes.name && { name: changes.name }) };
    await recordAudit(trx, { ...auditAuthor(actor), event: "cache.update", cacheId: cache.id, metadata });
  }).catch(nameTaken);
  announce(deps, cache.id);
  return cache.id;
}

/** An inactive cache serves nothing and takes nothing. A public one is read by everyone. */
export async function switchCache(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  name: string,
  changes: { readonly active: boolean } | { readonly public: boolean },
): Promise<void> {
  const { cache } = await requireCache(deps, actor, name, "manageCacheSettings", { unmanaged: true });
  await inTransaction(deps.db, async (trx) => {
    await updateCache(trx, cache.id, changes);
    const metadata = { cache: cache.name, ...changes };
    await recordAudit(trx, { ...auditAuthor(actor), event: "cache.update", cacheId: cache.id, metadata });
  });
  announce(deps, cache.id);
  for (const id of await listCachesRestingOn(deps.db, cache.id)) announce(deps, id);
}

/** With every path in it. */
export async function deleteCache(
  deps: Pick<ServiceDeps, "db" | "notifier">,
  actor: Actor,
  name: string,
): Promise<void> {
  const { cache } = await requireCache(deps, actor, name, "deleteCache", { unmanaged: true });
  const resting = await listCachesRestingOn(deps.db, cache.id);
  await inTransaction(deps.db, async (trx) => {
    await lockRealm(trx, { tables: CACHE_TABLES, id: cache.id });
    // Another one was quicker, or the name is that of another cache by now.
    const present = await requireCache({ db: trx }, actor, name, "deleteCache", { unmanaged: true });
    if (present.cache.id !== cache.id) throw new DomainError("not_found", "Cache not found");
    await deleteCacheRow(trx, cache.id);
    const metadata = { cache: cache.name, cache_id: cache.id };
    await recordAudit(trx, { ...auditAuthor(actor), event: "cache.delete", metadata });
  });
  for (const id of [cache.id, ...resting]) announce(deps, id);
}

function viewCache(row: CacheRowView, mask: number): CacheView {
  const { id, name, display_name, description, active, priority, local_priority, max_storage_gb, managed } = row;
  return {
    id,
    name,
    display_name,
    description,
    active,
    priority,
    local_priority,
    max_storage_gb,
    pull_through: row.pull_through,
    public_key: row.public_key,
    public: row.public,
    created_by: row.created_by,
    created_at: naiveTime(row.created_at),
    managed,
    can_edit: !managed && allowsCache(mask, "manageCacheSettings"),
  };
}

/** Servers that keep answers of this cache in memory ask again. */
function announce({ notifier }: Pick<ServiceDeps, "notifier">, cacheId: string): void {
  notifier.notify("path", `${cacheId}/`);
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "cache_name_key") throw error;
  throw new DomainError("already_exists", "name: a cache of this name exists already");
}
