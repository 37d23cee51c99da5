import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import type { PasswordHasher } from "../ports/password-hasher.ts";
import type { Challenge, PeerFailure, SessionGrant } from "../protocol/session-authority.ts";

export interface WorkerAuthDeps {
  readonly db: Kysely<Database>;
  readonly passwords: PasswordHasher;
}

export type { SessionGrant as WorkerGrant } from "../protocol/session-authority.ts";

/** The organizations that a worker of this id has to prove itself to. */
export async function challengeWorker({ db }: WorkerAuthDeps, workerId: string): Promise<Challenge> {
  const rows = await db
    .selectFrom("worker_registration")
    .select(["organization_id", "active"])
    .where("worker_id", "=", workerId)
    .limit(10_000)
    .execute();
  const active = rows.filter((row) => row.active);
  if (active.length > 0) return { peers: active.map((row) => row.organization_id) };
  const reason =
    rows.length > 0
      ? "this worker is deactivated: activate it in the list of its organization's workers"
      : `no organization has registered the worker ${workerId}: register it, ` +
        "then write the peer id and token to its peers file";
  return { refused: { code: 403, reason } };
}

/**
 * Checks the tokens that a worker answered with. Each organization decides for itself: a wrong token for one takes
 * nothing from another. Tokens are verified one after the other: each costs tens of milliseconds of a core.
 */
export async function authorizeWorker(
  { db, passwords }: WorkerAuthDeps,
  workerId: string,
  tokens: readonly { readonly peer: string; readonly token: string }[],
): Promise<{ readonly grants: readonly SessionGrant[]; readonly failed: readonly PeerFailure[] }> {
  const rows = await db
    .selectFrom("worker_registration")
    .select(["organization_id", "token_hash", "enable_fetch", "enable_eval", "enable_build"])
    .where("worker_id", "=", workerId)
    .where("active", "=", true)
    .limit(10_000)
    .execute();
  const grants: SessionGrant[] = [];
  const failed: PeerFailure[] = [];
  for (const row of rows) {
    const token = tokens.find(({ peer }) => peer === row.organization_id)?.token;
    if (token === undefined) failed.push({ peer_id: row.organization_id, reason: "no token provided" });
    else if (!(await passwords.verify(row.token_hash, token))) {
      failed.push({ peer_id: row.organization_id, reason: "invalid token" });
    } else {
      grants.push({
        organizationId: row.organization_id,
        fetch: row.enable_fetch,
        eval: row.enable_eval,
        build: row.enable_build,
      });
    }
  }
  return { grants, failed };
}
