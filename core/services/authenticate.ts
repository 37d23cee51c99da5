import { findLiveApiKey, findUserOfSession, noteApiKeyUse } from "../db/credentials.ts";
import type { Actor } from "../domain/actor.ts";
import { apiKeySecret } from "../domain/api-key.ts";
import { networkContains, parseIpNetwork } from "../domain/ip-address.ts";
import { DomainError } from "../errors.ts";
import { type Bytes, utf8 } from "../lib/bytes.ts";
import type { ServiceDeps } from "./deps.ts";
import { verifySessionToken } from "./session-token.ts";

type AuthenticateDeps = Pick<ServiceDeps, "db" | "clock" | "settings">;

export interface Credential {
  /** A session's token or an API key, from wherever the surface takes it. */
  readonly token: string;
  /** As believed from the trusted proxies. */
  readonly clientAddress: string;
}

/** Credentials that are not valid now, and whose they are where that is known. */
export class CredentialRefusal extends DomainError {
  readonly userId: string | null;

  constructor(code: "unauthorized" | "forbidden" | "forbidden_source_ip", message: string, userId: string | null) {
    super(code, message);
    this.userId = userId;
  }
}

/**
 * The one place where a token becomes an actor. Throws `unauthorized` for every token that is not valid now (unknown,
 * expired, revoked), `forbidden_source_ip` for a key used from outside its list, `forbidden` for a deactivated user.
 */
export async function authenticate(deps: AuthenticateDeps, { token, clientAddress }: Credential): Promise<Actor> {
  const secret = apiKeySecret(token);
  return secret === null ? await authenticateSession(deps, token) : await authenticateKey(deps, secret, clientAddress);
}

export async function hashApiKeySecret(secret: string): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(secret)));
}

async function authenticateSession({ db, clock, settings }: AuthenticateDeps, token: string): Promise<Actor> {
  const claims = await verifySessionToken(settings.jwtSecret, token, clock.now());
  if (!claims) throw invalidToken();
  const user = await findUserOfSession(db, { id: claims.sessionId, userId: claims.userId });
  if (!user) throw invalidToken();
  if (!user.active) throw deactivated(user.id);
  const { id, username, superuser } = user;
  return { user: { id, username, superuser }, key: null, sessionId: claims.sessionId };
}

async function authenticateKey({ db }: AuthenticateDeps, secret: string, clientAddress: string): Promise<Actor> {
  const key = await findLiveApiKey(db, await hashApiKeySecret(secret));
  if (!key) throw invalidToken();
  if (!key.user.active) throw deactivated(key.user.id);
  if (!isAllowedFrom(key.allowed_ips, clientAddress)) {
    const message = `This API key may not be used from ${clientAddress}`;
    throw new CredentialRefusal("forbidden_source_ip", message, key.user.id);
  }
  if (key.stale) await noteApiKeyUse(db, key.id);
  const { id, username, superuser } = key.user;
  const { id: keyId, permissions, organization_id: organizationId, cache_id: cacheId } = key;
  return {
    user: { id, username, superuser },
    key: { id: keyId, permissions, organizationId, cacheId },
    sessionId: null,
  };
}

/** Whether a key with this list may be used from there; without entries it may be used from everywhere. */
export function isAllowedFrom(allowedIps: readonly string[], address: string): boolean {
  return allowedIps.length === 0 || allowedIps.some((entry) => contains(entry, address));
}

function contains(entry: string, address: string): boolean {
  const network = parseIpNetwork(entry);
  return network !== null && networkContains(network, address);
}

function invalidToken(): DomainError {
  const message = "The token or API key is not valid: it is unknown, expired or revoked";
  return new CredentialRefusal("unauthorized", message, null);
}

function deactivated(userId: string): DomainError {
  return new CredentialRefusal("forbidden", "This user account is deactivated", userId);
}
