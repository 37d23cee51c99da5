import type { ProvenWorker } from "#core/db/attempts.ts";
import type { SignedFacts } from "#core/nix/signature.ts";
import { acceptSigningKey, verifiedSignatures, type WorkerKey } from "#core/services/worker-signatures.ts";
import type { HubDeps } from "./deps.ts";

/** What a worker signs: only signatures that its announced key has made go into a cache. */
export class SessionSignatures {
  readonly #deps: Pick<HubDeps, "db" | "log">;
  readonly #worker: () => ProvenWorker;
  #key: WorkerKey | null = null;
  #reported = false;

  constructor(deps: Pick<HubDeps, "db" | "log">, worker: () => ProvenWorker) {
    this.#deps = deps;
    this.#worker = worker;
  }

  /** The key of the session from now on; a worker whose key is refused works on without signatures. */
  async announce(text: string | null): Promise<void> {
    if (text === (this.#key?.text ?? null)) return;
    this.#key = null;
    if (text === null) return;
    const worker = this.#worker();
    const accepted = await acceptSigningKey(this.#deps.db, worker, text);
    if ("key" in accepted) this.#key = accepted;
    else this.#deps.log.warn("a worker's signing key is not used", { worker: worker.workerId, why: accepted.refused });
  }

  /** What is left out is named in the log once a session: the upload itself is proven by its hash. */
  async verified(facts: SignedFacts, signatures: readonly string[] = []): Promise<string[]> {
    if (signatures.length === 0) return [];
    const verified = this.#key ? await verifiedSignatures(this.#key, facts, signatures) : [];
    if (verified.length < signatures.length && !this.#reported) {
      this.#reported = true;
      const { workerId: worker } = this.#worker();
      this.#deps.log.warn("signatures that a worker's key has not made are left out", {
        worker,
        path: facts.storePath,
      });
    }
    return verified;
  }
}
