import type { StateCache } from "../api/state.ts";
import {
  deleteCacheMembersWithRole,
  deleteManaged,
  insertManaged,
  listStateCacheRoles,
  releaseManaged,
  updateManaged,
} from "../db/state-rows.ts";
import { CACHE_ROLE, cacheMask, isCachePermission } from "../domain/permissions.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { reconcileMembers } from "./state-members.ts";

/** The roles of a cache and its members, among whom its creator always is. */
export async function reconcileCacheRoles(context: StateContext, cache: StateCache, cacheId: string): Promise<void> {
  const { trx, options } = context;
  const rows = await listStateCacheRoles(trx, cacheId);
  const known = new Map(rows.map((row) => [row.name, row]));
  const roleIds = new Map<string, string>(Object.entries(CACHE_ROLE));
  for (const { name, permissions } of cache.roles) {
    const what = `role ${name} of the cache ${cache.name}`;
    const mask = cacheMask(permissions.filter(isCachePermission));
    const row = known.get(name);
    const id = row?.id ?? context.newId();
    roleIds.set(name, id);
    if (!row) {
      await insertManaged(trx, "cache_role", { id, cache_id: cacheId, name, permissions: mask });
      context.note("created", what);
      continue;
    }
    const changes = differences(row, { permissions: mask, managed: true });
    if (isEmpty(changes)) continue;
    await updateManaged(trx, "cache_role", id, changes);
    context.note(row.managed ? "changed" : "taken over", what);
  }
  await reconcileMembers(context, {
    kind: "cache",
    id: cacheId,
    what: `cache ${cache.name}`,
    members: cache.members.map(({ user, role }) => ({ user, roleId: roleIds.get(role) as string })),
    creator: cache.created_by === null ? null : { user: cache.created_by, roleId: CACHE_ROLE.Admin },
  });
  const leaving = rows.filter(({ managed, name }) => managed && !cache.roles.some((role) => role.name === name));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) {
    for (const id of ids) await deleteCacheMembersWithRole(trx, id);
    await deleteManaged(trx, "cache_role", ids);
  } else await releaseManaged(trx, "cache_role", ids);
  for (const { name } of leaving) {
    context.note(options.deleteUnlisted ? "deleted" : "released", `role ${name} of the cache ${cache.name}`);
  }
}
