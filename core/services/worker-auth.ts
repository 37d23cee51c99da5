import { type Kysely, sql } from "kysely";
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
  const rows = await registrationsOf(db, workerId);
  const active = rows.filter((row) => row.active);
  if (active.length > 0) return { peers: [...new Set(active.map((row) => row.peer))] };
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
  const rows = (await registrationsOf(db, workerId)).filter((row) => row.active);
  const grants: SessionGrant[] = [];
  const failed: PeerFailure[] = [];
  for (const [peer, ofPeer] of Map.groupBy(rows, (row) => row.peer)) {
    const token = tokens.find((answer) => answer.peer === peer)?.token;
    // Who proves itself once for several has one token with all of them.
    const hash = ofPeer[0]?.token_hash ?? "";
    if (token === undefined) failed.push({ peer_id: peer, reason: "no token provided" });
    else if (!(await passwords.verify(hash, token))) failed.push({ peer_id: peer, reason: "invalid token" });
    else grants.push(...ofPeer.filter((row) => row.token_hash === hash).map(grantOf));
  }
  return { grants, failed };
}

/** With the peer that the worker proves itself to: the organization, or one that stands for all that use the worker. */
async function registrationsOf(db: Kysely<Database>, workerId: string) {
  return await db
    .selectFrom("worker_registration")
    .leftJoin("base_worker", "base_worker.id", "worker_registration.base_worker_id")
    .select(["organization_id", "active", "worker_registration.token_hash"])
    .select(["worker_registration.enable_fetch", "worker_registration.enable_eval", "worker_registration.enable_build"])
    .select(sql<string>`coalesce(base_worker.authorize_against, organization_id)`.as("peer"))
    .where("worker_registration.worker_id", "=", workerId)
    .limit(10_000)
    .execute();
}

function grantOf(row: Awaited<ReturnType<typeof registrationsOf>>[number]): SessionGrant {
  const { organization_id: organizationId, enable_fetch, enable_eval, enable_build } = row;
  return { organizationId, fetch: enable_fetch, eval: enable_eval, build: enable_build };
}
