import type { Kysely, Transaction } from "kysely";
import type { ChangeKeyBody, CreateKeyBody, KeyPermissionsView, KeyView } from "../api/keys.ts";
import { zonedTime } from "../api/times.ts";
import {
  type ApiKeyChanges,
  type ApiKeyWithPin,
  countApiKeys,
  deleteApiKey,
  findApiKey,
  insertApiKey,
  keyExpiry,
  listApiKeys,
  lockApiKeysOf,
  revokeApiKey,
  updateApiKey,
} from "../db/api-keys.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { formatApiKey, generateApiKeySecret } from "../domain/api-key.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { cachePermissionsIn, organizationPermissionsIn } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { DAY } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type AuditRecord, auditAuthor, recordAudit } from "./audit.ts";
import { hashApiKeySecret } from "./authenticate.ts";
import type { ServiceDeps } from "./deps.ts";
import { findPin, keyMask, parseAllowedIps, requireKeyName, requireSession } from "./key-rules.ts";
import { listCachePermissions, listOrganizationPermissions } from "./permission-names.ts";
import { refuseVanished } from "./vanished.ts";

/** Enough for a key a machine; listed without pages. */
const KEYS_MAX = 1_000;

type KeyDeps = Pick<ServiceDeps, "db" | "clock" | "random">;

/** All of the user's; through a key with a pin, those with the same pin. */
export async function listKeys({ db }: Pick<KeyDeps, "db">, actor: Actor): Promise<KeyView[]> {
  const { organizationId = null, cacheId = null } = actor.key ?? {};
  const keys = await listApiKeys(db, requireUser(actor).id);
  const pinned = organizationId !== null || cacheId !== null;
  const shown = keys.filter((key) => key.organization_id === organizationId && key.cache_id === cacheId);
  return (pinned ? shown : keys).map(viewKey);
}

/** The key's text. It is shown here once: the server keeps its hash only. */
export async function createKey(deps: KeyDeps, actor: Actor, body: CreateKeyBody): Promise<string> {
  const owner = requireSession(actor);
  const name = requireKeyName(body.name);
  const allowedIps = parseAllowedIps(body.allowed_ips);
  const secret = generateApiKeySecret(deps.random);
  const id = uuidV7(deps.clock.now(), deps.random);
  const tokenHash = await hashApiKeySecret(secret);
  await inTransaction(deps.db, async (trx) => {
    await lockApiKeysOf(trx, owner.id);
    const names = { organization: body.organization ?? null, cache: body.cache ?? null };
    const pin = await findPin({ db: trx }, actor, names);
    const key = {
      id,
      owner_id: owner.id,
      name,
      token_hash: tokenHash,
      permissions: keyMask(body.permissions, pin),
      organization_id: pin.organization?.id ?? null,
      cache_id: pin.cache?.id ?? null,
      allowed_ips: allowedIps,
    };
    if ((await countApiKeys(trx, owner.id)) >= KEYS_MAX) {
      throw new DomainError("conflict", `You have ${KEYS_MAX} API keys, as many as are allowed: delete some first`);
    }
    await insertApiKey(trx, key, lifetimeOf(body));
    await record(trx, actor, "api_key.create", key, { permissions: body.permissions });
  })
    .catch(nameTaken)
    .catch(refuseVanished);
  return formatApiKey(secret);
}

export async function changeKey(
  { db }: Pick<KeyDeps, "db">,
  actor: Actor,
  id: string,
  body: ChangeKeyBody,
): Promise<KeyView> {
  return await changeOwnKey(db, actor, { id }, async (trx, key) => {
    const changes: ApiKeyChanges = {};
    if (body.name !== undefined) changes.name = requireKeyName(body.name);
    if (body.allowed_ips !== undefined) changes.allowed_ips = parseAllowedIps(body.allowed_ips);
    if (body.expires_in_days !== undefined) changes.expires_at = keyExpiry(lifetimeOf(body));
    if (body.organization !== undefined || body.permissions !== undefined) {
      // Checked as a whole, whichever of the two changes: the old permissions under a new pin too.
      const organization = body.organization === undefined ? key.organization_name : body.organization;
      const pin = await findPin({ db: trx }, actor, { organization, cache: key.cache_name });
      changes.permissions = keyMask(body.permissions ?? viewKey(key).permissions, pin);
      changes.organization_id = pin.organization?.id ?? null;
    }
    await updateApiKey(trx, key.id, changes);
    const changed = (await findApiKey(trx, requireUser(actor).id, { id: key.id })) ?? key;
    const { permissions } = viewKey(changed);
    await record(trx, actor, "api_key.update", changed, { changed: Object.keys(changes), permissions });
    return viewKey(changed);
  })
    .catch(nameTaken)
    .catch(refuseVanished);
}

export async function revokeKey({ db }: Pick<KeyDeps, "db">, actor: Actor, id: string): Promise<void> {
  await changeOwnKey(db, actor, { id }, async (trx, key) => {
    await revokeApiKey(trx, key.id);
    await record(trx, actor, "api_key.revoke", key);
  });
}

export async function deleteKey({ db }: Pick<KeyDeps, "db">, actor: Actor, name: string): Promise<void> {
  await changeOwnKey(db, actor, { name }, async (trx, key) => {
    await deleteApiKey(trx, key.id);
    await record(trx, actor, "api_key.delete", key);
  });
}

export function listKeyPermissions(actor: Actor): KeyPermissionsView {
  requireUser(actor);
  return {
    available_permissions: listOrganizationPermissions(),
    availableCache: listCachePermissions(),
  };
}

/** One change of a user's keys at a time, each seeing what the one before it left. */
async function changeOwnKey<T>(
  db: Kysely<Database>,
  actor: Actor,
  by: { readonly id: string } | { readonly name: string },
  change: (trx: Transaction<Database>, key: ApiKeyWithPin) => Promise<T>,
): Promise<T> {
  const owner = requireSession(actor);
  return await inTransaction(db, async (trx) => {
    await lockApiKeysOf(trx, owner.id);
    const key = await findApiKey(trx, owner.id, by);
    if (!key) throw new DomainError("not_found", "API key not found");
    if (key.managed) {
      throw new DomainError("forbidden", "This API key is declared in the server's configuration: change it there");
    }
    return await change(trx, key);
  });
}

/** Admins of what a key is pinned to see what becomes of it. */
async function record(
  trx: Transaction<Database>,
  actor: Actor,
  event: AuditEvent,
  key: Pick<ApiKeyWithPin, "id" | "name" | "organization_id" | "cache_id">,
  more: AuditRecord["metadata"] = {},
): Promise<void> {
  await recordAudit(trx, {
    ...auditAuthor(actor),
    event,
    organizationId: key.organization_id,
    cacheId: key.cache_id,
    metadata: { key: key.name, key_id: key.id, ...more },
  });
}

function viewKey(key: ApiKeyWithPin): KeyView {
  const { id, name, managed, permissions: mask, allowed_ips } = key;
  return {
    id,
    name,
    managed,
    permissions: key.cache_id === null ? organizationPermissionsIn(mask) : cachePermissionsIn(mask),
    organization: key.organization_name,
    cache: key.cache_name,
    created_at: zonedTime(key.created_at),
    last_used_at: key.last_used_at && zonedTime(key.last_used_at),
    expires_at: key.expires_at && zonedTime(key.expires_at),
    revoked_at: key.revoked_at && zonedTime(key.revoked_at),
    allowed_ips,
  };
}

function lifetimeOf({ expires_in_days: days }: Pick<CreateKeyBody, "expires_in_days">): number | null {
  return days ? days * DAY : null;
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "api_key_name_key") throw error;
  throw new DomainError("already_exists", "name: you have another API key of this name");
}
