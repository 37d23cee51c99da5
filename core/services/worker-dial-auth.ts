import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { listDialRegistrations } from "../db/worker-dials.ts";
import { isWorkerProof } from "../protocol/dial.ts";
import type { DialContext } from "../protocol/dial-proof.ts";
import type { PeerFailure, SessionAuthority, SessionGrant } from "../protocol/session-authority.ts";

/**
 * Who lets a worker in that the server has dialled: the organizations that have registered it at that address. The
 * worker proves that it has their tokens without sending them.
 */
export function dialledAuthority(
  db: Kysely<Database>,
  organizationIds: readonly string[],
  context: DialContext,
): SessionAuthority {
  return {
    async challenge(workerId) {
      const rows = await listDialRegistrations(db, workerId, organizationIds);
      if (rows.length > 0) return { peers: [...new Set(rows.map((row) => row.peer))] };
      const reason = "this worker is deactivated: activate it in the list of its organization's workers";
      return { refused: { code: 403, reason } };
    },
    async authorize(workerId, answers) {
      const grants: SessionGrant[] = [];
      const failed: PeerFailure[] = [];
      for (const row of await listDialRegistrations(db, workerId, organizationIds)) {
        const { peer, token_hash: tokenHash } = row;
        const answer = answers.find((given) => given.peer === peer)?.token;
        if (answer === undefined) failed.push({ peer_id: peer, reason: "no token provided" });
        else if (!(await isWorkerProof(answer, { peer, tokenHash }, context))) {
          failed.push({ peer_id: peer, reason: "invalid token" });
        } else {
          const { organization_id: organizationId, enable_fetch, enable_eval, enable_build } = row;
          grants.push({ organizationId, fetch: enable_fetch, eval: enable_eval, build: enable_build });
        }
      }
      return { grants, failed };
    },
  };
}
