import type { Clock } from "#core/lib/clock.ts";
import { sleep } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import { isSameProof } from "#core/protocol/dial-proof.ts";
import type { Challenge, PeerFailure, SessionAuthority, SessionGrant } from "#core/protocol/session-authority.ts";
import type { Capabilities } from "#core/protocol/worker-messages.ts";
import { type DownstreamTokens, tokenFor } from "./downstream-tokens.ts";

export interface RelayAuthorityOptions {
  readonly readTokens: () => Promise<DownstreamTokens>;
  /** The organizations that the server lets the relay work for; null while there is no session with it. */
  readonly organizations: () => readonly string[] | null;
  /** Resolves when there is a session. */
  readonly attached: () => Promise<void>;
  readonly able: Pick<Capabilities, "fetch" | "eval" | "build">;
  readonly clock: Clock;
  readonly log: Logger;
}

/** How long a worker is kept waiting for the relay's own server: less than a handshake may take. */
const UPSTREAM_WAIT_MS = 12_000;

/** The relay's operator lets workers in, each for organizations that have let the relay in. */
export class RelayAuthority implements SessionAuthority {
  readonly #options: RelayAuthorityOptions;

  constructor(options: RelayAuthorityOptions) {
    this.#options = options;
  }

  async challenge(workerId: string): Promise<Challenge> {
    const tokens = await this.#tokens();
    if (!tokens.workers.has(workerId)) {
      const reason = `this relay does not know the worker ${workerId}: its operator has to add it to the relay's file`;
      return { refused: { code: 403, reason } };
    }
    const peers = (await this.#organizations()).filter((id) => tokenFor(tokens, workerId, id) !== null);
    if (peers.length > 0) return { peers };
    const reason = "none of the organizations that this worker is let in for has let the relay in";
    return { refused: { code: 403, reason } };
  }

  async authorize(
    workerId: string,
    given: readonly { readonly peer: string; readonly token: string }[],
  ): Promise<{ readonly grants: readonly SessionGrant[]; readonly failed: readonly PeerFailure[] }> {
    const tokens = await this.#tokens();
    const { fetch, eval: evaluate, build } = this.#options.able;
    const grants: SessionGrant[] = [];
    const failed: PeerFailure[] = [];
    for (const organizationId of await this.#organizations()) {
      const expected = tokenFor(tokens, workerId, organizationId);
      if (expected === null) continue;
      const token = given.find(({ peer }) => peer === organizationId)?.token;
      if (token === undefined) failed.push({ peer_id: organizationId, reason: "no token provided" });
      else if (!isSameProof(token, expected)) failed.push({ peer_id: organizationId, reason: "invalid token" });
      else grants.push({ organizationId, fetch, eval: evaluate, build });
    }
    return { grants, failed };
  }

  async #tokens(): Promise<DownstreamTokens> {
    const tokens = await this.#options.readTokens();
    for (const problem of tokens.problems) this.#options.log.warn(problem);
    return tokens;
  }

  /** Waits for the server a while: workers come back to a relay before the relay has reached it again. */
  async #organizations(): Promise<readonly string[]> {
    const { organizations, attached, clock } = this.#options;
    if (organizations() === null) {
      const over = new AbortController();
      await Promise.race([attached(), sleep(clock, UPSTREAM_WAIT_MS, over.signal)]);
      over.abort();
    }
    const now = organizations();
    if (now === null) throw new Error("the relay has no session with its server");
    return now;
  }
}
