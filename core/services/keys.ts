import type { ChangeKeyBody, CreateKeyBody, KeyPermissionsView, KeyView } from "../api/keys.ts";
import { zonedTime } from "../api/times.ts";
import {
  type ApiKeyChanges,
  type ApiKeyWithPin,
  countApiKeys,
  deleteApiKey,
  findApiKey,
  insertApiKey,
  listApiKeys,
  revokeApiKey,
  updateApiKey,
} from "../db/api-keys.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { formatApiKey, generateApiKeySecret } from "../domain/api-key.ts";
import {
  CACHE_PERMISSIONS,
  cachePermissionsIn,
  isMutating,
  ORGANIZATION_PERMISSIONS,
  organizationPermissionsIn,
} from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { DAY } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";
import { hashApiKeySecret } from "./authenticate.ts";
import type { ServiceDeps } from "./deps.ts";
import { findPin, keyMask, parseAllowedIps, requireKeyName, requireSession } from "./key-rules.ts";

/** Enough for a key a machine; listed without pages. */
const KEYS_MAX = 1_000;

type KeyDeps = Pick<ServiceDeps, "db" | "clock" | "random">;

export async function listKeys({ db }: Pick<KeyDeps, "db">, actor: Actor): Promise<KeyView[]> {
  return (await listApiKeys(db, requireUser(actor).id)).map(viewKey);
}

/** The key's text. It is shown here once: the server keeps its hash only. */
export async function createKey(deps: KeyDeps, actor: Actor, body: CreateKeyBody): Promise<string> {
  const owner = requireSession(actor);
  const name = requireKeyName(body.name);
  const pin = await findPin(deps, actor, { organization: body.organization ?? null, cache: body.cache ?? null });
  const allowedIps = parseAllowedIps(body.allowed_ips);
  const permissions = keyMask(body.permissions, pin);
  if ((await countApiKeys(deps.db, owner.id)) >= KEYS_MAX) {
    throw new DomainError("conflict", `You have ${KEYS_MAX} API keys, as many as are allowed: delete some first`);
  }
  const secret = generateApiKeySecret(deps.random);
  const key = {
    id: uuidV7(deps.clock.now(), deps.random),
    owner_id: owner.id,
    name,
    token_hash: await hashApiKeySecret(secret),
    permissions,
    organization_id: pin.organization?.id ?? null,
    cache_id: pin.cache?.id ?? null,
    allowed_ips: allowedIps,
  };
  const lifetimeMs = body.expires_in_days ? body.expires_in_days * DAY : null;
  await insertApiKey(deps.db, key, lifetimeMs).catch(nameTaken);
  return formatApiKey(secret);
}

export async function changeKey(deps: KeyDeps, actor: Actor, id: string, body: ChangeKeyBody): Promise<KeyView> {
  const key = await requireOwnKey(deps, actor, { id });
  const changes: ApiKeyChanges = {};
  if (body.name !== undefined) changes.name = requireKeyName(body.name);
  if (body.allowed_ips !== undefined) changes.allowed_ips = parseAllowedIps(body.allowed_ips);
  if (body.organization !== undefined || body.permissions !== undefined) {
    // Checked as a whole, whichever of the two changes: the old permissions under a new pin too.
    const organization = body.organization === undefined ? key.organization_name : body.organization;
    const pin = await findPin(deps, actor, { organization, cache: key.cache_name });
    changes.permissions = keyMask(body.permissions ?? viewKey(key).permissions, pin);
    changes.organization_id = pin.organization?.id ?? null;
  }
  await updateApiKey(deps.db, key.id, changes).catch(nameTaken);
  return viewKey((await findApiKey(deps.db, requireUser(actor).id, { id })) ?? key);
}

export async function revokeKey(deps: KeyDeps, actor: Actor, id: string): Promise<void> {
  await revokeApiKey(deps.db, (await requireOwnKey(deps, actor, { id })).id);
}

export async function deleteKey(deps: KeyDeps, actor: Actor, name: string): Promise<void> {
  await deleteApiKey(deps.db, (await requireOwnKey(deps, actor, { name })).id);
}

export function listKeyPermissions(actor: Actor): KeyPermissionsView {
  requireUser(actor);
  return {
    available_permissions: ORGANIZATION_PERMISSIONS.map((id) => ({ id, mutating: isMutating(id) })),
    availableCache: CACHE_PERMISSIONS.map((id) => ({ id, mutating: isMutating(id) })),
  };
}

async function requireOwnKey(
  { db }: Pick<KeyDeps, "db">,
  actor: Actor,
  by: { readonly id: string } | { readonly name: string },
): Promise<ApiKeyWithPin> {
  const key = await findApiKey(db, requireSession(actor).id, by);
  if (!key) throw new DomainError("not_found", "API key not found");
  if (key.managed) {
    throw new DomainError("forbidden", "This API key is declared in the server's configuration: change it there");
  }
  return key;
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

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "api_key_name_key") throw error;
  throw new DomainError("already_exists", "name: you have another API key of this name");
}
