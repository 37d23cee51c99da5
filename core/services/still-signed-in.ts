import { findKeyLimits, isLiveCredential } from "../db/sessions.ts";
import type { Actor, ActorKey } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { isAllowedFrom } from "./authenticate.ts";
import type { ServiceDeps } from "./deps.ts";

/**
 * For streams, which outlive the look at the credentials that they began with. Throws `unauthorized` once the session
 * or the key was revoked, or is too old, or the user is gone, and once the key was changed in what it is good for.
 */
export async function requireStillSignedIn(deps: Pick<ServiceDeps, "db">, actor: Actor): Promise<void> {
  if (!actor.user) return;
  const credential = { userId: actor.user.id, sessionId: actor.sessionId, keyId: actor.key?.id ?? null };
  if ((await isLiveCredential(deps.db, credential)) && (await isKeyUnchanged(deps, actor, actor.key))) return;
  throw new DomainError("unauthorized", "The session or API key ended while the stream was open: sign in anew");
}

async function isKeyUnchanged(
  { db }: Pick<ServiceDeps, "db">,
  { client }: Actor,
  key: ActorKey | null,
): Promise<boolean> {
  if (!key) return true;
  const now = await findKeyLimits(db, key.id);
  return (
    now?.permissions === key.permissions &&
    now.organizationId === key.organizationId &&
    now.cacheId === key.cacheId &&
    (!client || isAllowedFrom(now.allowed_ips, client.address))
  );
}
