import { zonedTime } from "../api/times.ts";
import type { SessionView } from "../api/user.ts";
import { deleteLinksToOtherAddresses } from "../db/account-tokens.ts";
import { deleteDevicesOf } from "../db/device-logins.ts";
import { listLiveSessions, revokeOtherSessions, revokeSession } from "../db/sessions.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, type ActorUser, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";

type SessionDeps = Pick<ServiceDeps, "db">;

/** Accounts are changed by people: a key that could would outlive its own limits. */
export function requireSignedIn(actor: Actor): ActorUser {
  const user = requireUser(actor);
  if (actor.key)
    throw new DomainError("forbidden", "Accounts are changed from a session only, not with an API key: sign in");
  return user;
}

/** What a key is pinned to is all that it tells of. */
export function requireWholeUser(actor: Actor): ActorUser {
  const user = requireUser(actor);
  if (actor.key?.organizationId || actor.key?.cacheId) {
    throw new DomainError("forbidden", "This API key is pinned: sign in, or use a key without a pin");
  }
  return user;
}

/** Those that are neither revoked nor expired, the one used last first. */
export async function listSessions({ db }: SessionDeps, actor: Actor): Promise<SessionView[]> {
  const sessions = await listLiveSessions(db, requireWholeUser(actor).id);
  return sessions.map((session) => ({
    id: session.id,
    user_agent: session.user_agent,
    ip: session.ip,
    created_at: zonedTime(session.created_at),
    last_used_at: zonedTime(session.last_used_at),
    expires_at: zonedTime(session.expires_at),
    remember_me: session.remember_me,
    current: session.id === actor.sessionId,
  }));
}

/**
 * Its token is refused from now on. A device that was let in and has not asked since stays out: the session may have
 * been whose that let it in. Throws `not_found` for what is no live session of the actor's.
 */
export async function endSession({ db }: SessionDeps, actor: Actor, id: string): Promise<void> {
  const user = requireSignedIn(actor);
  await inTransaction(db, async (trx) => {
    // First: one that asks at this moment gets its session before those are ended.
    await deleteDevicesOf(trx, user.id);
    if (!(await revokeSession(trx, id, user.id))) throw new DomainError("not_found", "Session not found");
    await recordAudit(trx, { ...auditAuthor(actor), event: "session.revoke", metadata: { session: id } });
  });
}

/**
 * All but the one that asks, devices that were let in and have not asked since, and links to new addresses that one of
 * them may have asked for. Returns how many sessions.
 */
export async function endOtherSessions({ db }: SessionDeps, actor: Actor): Promise<number> {
  const user = requireSignedIn(actor);
  return await inTransaction(db, async (trx) => {
    await deleteDevicesOf(trx, user.id);
    await deleteLinksToOtherAddresses(trx, user.id);
    const count = await revokeOtherSessions(trx, user.id, actor.sessionId);
    if (count > 0) {
      await recordAudit(trx, { ...auditAuthor(actor), event: "session.revoke", metadata: { sessions: count } });
    }
    return count;
  });
}
