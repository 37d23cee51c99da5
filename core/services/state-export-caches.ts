import type { Transaction } from "kysely";
import type { Database } from "../db/schema.ts";
import {
  listExportedCacheRoles,
  listExportedCaches,
  listExportedMembers,
  listExportedSubscriptions,
  listExportedUpstreams,
} from "../db/state-export.ts";
import { UpstreamKind } from "../db/upstreams.ts";
import type { NixValue } from "../domain/nix-text.ts";
import { cachePermissionsIn } from "../domain/permissions.ts";
import { SubscriptionMode, subscriptionModeName } from "../domain/subscription.ts";
import type { ExportedEntry } from "./state-export-keys.ts";
import { nameOf } from "./state-export-organizations.ts";

type UpstreamRow = Awaited<ReturnType<typeof listExportedUpstreams>>[number];
type SubscriptionRow = Awaited<ReturnType<typeof listExportedSubscriptions>>[number];

/** `names`: of users, by id. */
export async function exportCaches(
  trx: Transaction<Database>,
  names: ReadonlyMap<string, string>,
): Promise<ExportedEntry[]> {
  const members = Map.groupBy(await listExportedMembers(trx), ({ realm_id }) => realm_id);
  const roles = Map.groupBy(await listExportedCacheRoles(trx), ({ cache_id }) => cache_id);
  const subscriptions = Map.groupBy(await listExportedSubscriptions(trx), ({ cache_id }) => cache_id);
  const upstreams = Map.groupBy(await listExportedUpstreams(trx), ({ cache_id }) => cache_id);
  return (await listExportedCaches(trx)).map((row) => {
    const name = row.name ?? row.id;
    const own = members.get(row.id) ?? [];
    const creator = nameOf(names, row.created_by);
    const value: NixValue = {
      name,
      display_name: row.display_name,
      description: row.description,
      active: row.active,
      public: row.public,
      priority: row.priority,
      local_priority: row.local_priority,
      max_storage_gb: row.max_storage_gb,
      pull_through: row.pull_through,
      signing_key_file: null,
      organizations: (subscriptions.get(row.id) ?? []).map(exportSubscription),
      upstreams: (upstreams.get(row.id) ?? []).map(exportUpstream),
      // The file would make a creator who is no member an Admin.
      created_by: own.some(({ username }) => username === creator) ? creator : null,
      roles: (roles.get(row.id) ?? []).map((role) => ({
        name: role.name,
        permissions: cachePermissionsIn(role.permissions),
      })),
      members: own.map(({ username: user, role }) => ({ user, role })),
    };
    return { keys: [name], value };
  });
}

function exportSubscription({ organization, mode }: SubscriptionRow): NixValue {
  return mode === SubscriptionMode.ReadWrite ? organization : { name: organization, mode: subscriptionModeName(mode) };
}

function exportUpstream(row: UpstreamRow): NixValue {
  const { display_name, url, remote_cache, cache_name, has_key } = row;
  const mode = subscriptionModeName(row.mode);
  const public_key = row.public_keys.join(" ");
  switch (row.kind) {
    case UpstreamKind.Internal:
      return { type: "internal", cache_name, display_name, mode };
    case UpstreamKind.Gradient: {
      const key = { api_key_file: null, has_api_key_file: has_key };
      return { type: "gradient_proto", display_name, url, remote_cache, public_key, ...key, mode };
    }
    default:
      return { type: "external", display_name, url, public_key, mode };
  }
}
