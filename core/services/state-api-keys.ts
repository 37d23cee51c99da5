import type { StateApiKey } from "../api/state.ts";
import { deleteManaged, insertManaged, lockStateApiKeys, releaseManaged, updateManaged } from "../db/state-rows.ts";
import { cacheMask, isCachePermission, isOrganizationPermission, organizationMask } from "../domain/permissions.ts";
import { fromHex } from "../lib/bytes.ts";
import { parseAllowedIps } from "./key-rules.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { secretNames } from "./state-secrets.ts";

type Row = Awaited<ReturnType<typeof lockStateApiKeys>>[number];

/** A key that leaves the file while another with the same text comes is the same key by another name. */
export async function reconcileApiKeys(context: StateContext): Promise<void> {
  const { document, trx } = context;
  const hashes = new Map(document.api_keys.map((key) => [key, hashOf(context, key)]));
  const rows = await lockStateApiKeys(trx, {
    ownerIds: [...context.userIds.values()],
    hashes: [...hashes.values()].filter((hash) => hash !== null),
  });
  const declared = declaredKeys(context);
  const byName = new Map(rows.map((row) => [identity(row.username, row.name), row]));
  const byHash = new Map(rows.map((row) => [row.hash_text, row]));
  const claimed = new Set<string>();
  for (const key of document.api_keys) {
    const hash = hashes.get(key) ?? null;
    const holder = hash === null ? undefined : byHash.get(hash);
    const isLeaving = holder?.managed === true && !declared.has(identity(holder.username, holder.name));
    const row = byName.get(identity(key.owned_by, key.name)) ?? (isLeaving ? holder : undefined);
    const path = ["api_keys", key.key, "key_file"];
    if (holder && holder !== row) context.report(path, `holds the hash of another key, ${describe(holder)}`);
    else if (hash !== null && claimed.has(hash)) context.report(path, "holds the hash of another key of this file");
    else if (!row && hash === null) context.report(path, "is missing: the server does not have this key yet");
    else if (row?.revoked_at && hash === null) context.report(path, "is missing: the key of this name was revoked");
    else await putKey(context, key, { row, hash });
    if (hash !== null) claimed.add(hash);
  }
}

export async function removeApiKeys(context: StateContext): Promise<void> {
  const { trx, options } = context;
  const declared = declaredKeys(context);
  const rows = await lockStateApiKeys(trx, { ownerIds: [], hashes: [] });
  const leaving = rows.filter((row) => row.managed && !declared.has(identity(row.username, row.name)));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) await deleteManaged(trx, "api_key", ids);
  else await releaseManaged(trx, "api_key", ids);
  for (const row of leaving) context.note(options.deleteUnlisted ? "deleted" : "released", `API key ${describe(row)}`);
}

async function putKey(
  context: StateContext,
  key: StateApiKey,
  { row, hash }: { readonly row: Row | undefined; readonly hash: string | null },
): Promise<void> {
  const wanted = {
    name: key.name,
    owner_id: context.userId(key.owned_by) as string,
    permissions:
      key.cache == null
        ? organizationMask(key.permissions.filter(isOrganizationPermission))
        : cacheMask(key.permissions.filter(isCachePermission)),
    organization_id: key.organization == null ? null : context.organizationId(key.organization),
    cache_id: key.cache == null ? null : context.cacheId(key.cache),
    allowed_ips: parseAllowedIps(key.allowed_ips),
    expires_at: key.expires_at == null ? null : new Date(key.expires_at),
    ...(hash === null ? {} : { token_hash: fromHex(hash) as Uint8Array, revoked_at: null }),
  };
  const what = `API key ${key.name} of ${key.owned_by}`;
  if (!row) {
    await insertManaged(context.trx, "api_key", { id: context.newId(), ...wanted } as never);
    return context.note("created", what);
  }
  const changes = differences(row, { ...wanted, managed: true });
  if (isEmpty(changes)) return;
  await updateManaged(context.trx, "api_key", row.id, changes);
  if (!row.managed) return context.note("taken over", what);
  const renamed = row.name !== key.name || "owner_id" in changes;
  context.note(renamed ? "renamed" : "changed", renamed ? `API key ${describe(row)}, now ${key.name}` : what);
}

function hashOf(context: StateContext, key: StateApiKey): string | null {
  return context.secret(key.key_file, secretNames.apiKey(key));
}

function declaredKeys({ document }: StateContext): Set<string> {
  return new Set(document.api_keys.map(({ owned_by, name }) => identity(owned_by, name)));
}

function identity(owner: string, name: string): string {
  return JSON.stringify([owner.toLowerCase(), name]);
}

function describe({ name, username }: Row): string {
  return `${name} of ${username}`;
}
