import { isLiveCredential } from "../db/sessions.ts";
import type { Actor } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import type { ServiceDeps } from "./deps.ts";

/**
 * For streams, which outlive the look at the credentials that they began with. Throws `unauthorized` once the session
 * or the key was revoked, or is too old, or the user is gone.
 */
export async function requireStillSignedIn({ db }: Pick<ServiceDeps, "db">, actor: Actor): Promise<void> {
  if (!actor.user) return;
  const credential = { userId: actor.user.id, sessionId: actor.sessionId, keyId: actor.key?.id ?? null };
  if (await isLiveCredential(db, credential)) return;
  throw new DomainError("unauthorized", "The session or API key ended while the stream was open: sign in anew");
}
