import type { ApiKeyChanges } from "../db/api-keys.ts";
import { type Actor, type ActorUser, requireUser } from "../domain/actor.ts";
import { formatIpNetwork, parseIpNetwork } from "../domain/ip-address.ts";
import { DomainError, type ErrorCode } from "../errors.ts";
import { requireCache, requireOrganization } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import { cacheMaskOf, organizationMaskOf } from "./permission-names.ts";

/** What a key is for. At most one of the two. */
export interface KeyPin {
  readonly organization: { readonly id: string; readonly mask: number } | null;
  readonly cache: { readonly id: string; readonly mask: number } | null;
}

const NAME = /^[\p{L}\p{N}][\p{L}\p{N} ._@:/+-]{0,99}$/u;

/** Keys are managed by people: a key that could make or change keys would outlive its own limits. */
export function requireSession(actor: Actor): ActorUser {
  const user = requireUser(actor);
  if (actor.key) throw new DomainError("forbidden", "API keys are managed from a session only: sign in");
  return user;
}

export function requireKeyName(name: string): string {
  if (NAME.test(name)) return name;
  throw new DomainError(
    "invalid_name",
    "name must be 1 to 100 characters: letters, digits, spaces and `._@:/+-`, with a letter or digit first",
  );
}

/** Throws `validation` for a name that is unknown or that the actor is no member of: the two look alike. */
export async function findPin(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  { organization, cache }: { readonly organization: string | null; readonly cache: string | null },
): Promise<KeyPin> {
  if (organization !== null && cache !== null) {
    throw new DomainError("validation", "organization, cache: a key is pinned to one of the two at most");
  }
  return {
    organization: organization === null ? null : await pinToOrganization(deps, actor, organization),
    cache: cache === null ? null : await pinToCache(deps, actor, cache),
  };
}

/** The mask of the named permissions. Under a pin they may not exceed what the actor holds there. */
export function keyMask(permissions: readonly string[], pin: KeyPin): number {
  const mask = pin.cache ? cacheMaskOf(permissions) : organizationMaskOf(permissions);
  const held = pin.cache?.mask ?? pin.organization?.mask ?? ~0;
  if ((mask & ~held) !== 0) {
    throw new DomainError(
      "forbidden",
      "permissions: a key cannot hold permissions that you do not have there yourself",
    );
  }
  return mask;
}

/** In canonical form, `address/prefix length`. */
export function parseAllowedIps(entries: readonly string[]): NonNullable<ApiKeyChanges["allowed_ips"]> & string[] {
  return entries.map((entry) => {
    const network = parseIpNetwork(entry);
    if (network) return formatIpNetwork(network);
    throw new DomainError(
      "invalid_allowed_ip",
      `allowed_ips: \`${entry}\` is neither an IP address nor a network such as 10.0.0.0/8 or fd00::/8`,
    );
  });
}

async function pinToOrganization(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<KeyPin["organization"]> {
  const message = "organization: there is no organization of this name that you are a member of";
  const { organization, mask } = await requireOrganization(deps, actor, name, "member").catch(
    as("validation", message),
  );
  return { id: organization.id, mask };
}

async function pinToCache(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<KeyPin["cache"]> {
  const message = "cache: there is no cache of this name that you have access to";
  const { cache, mask } = await requireCache(deps, actor, name, "read").catch(as("validation", message));
  return { id: cache.id, mask };
}

/** Rejects with another error where the rejection was a refusal. */
function as(code: ErrorCode, message: string): (error: unknown) => never {
  return (error) => {
    throw error instanceof DomainError ? new DomainError(code, message) : error;
  };
}
