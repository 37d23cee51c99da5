import type { ProvenWorker } from "#core/db/attempts.ts";
import type { WorkerDescription } from "#core/db/schema.ts";
import type { SignedFacts } from "#core/nix/signature.ts";
import { acceptSigningKeys, verifiedSignatures, type WorkerKey } from "#core/services/worker-signatures.ts";
import type { HubDeps } from "./deps.ts";

type Keys = Pick<WorkerDescription, "signing_key" | "signing_keys">;

/** What a worker signs: only signatures that its announced keys have made go into a cache. */
export class SessionSignatures {
  readonly #deps: Pick<HubDeps, "db" | "log">;
  readonly #worker: () => ProvenWorker;
  #announced = "";
  #keys: readonly WorkerKey[] = [];
  #reported = false;

  constructor(deps: Pick<HubDeps, "db" | "log">, worker: () => ProvenWorker) {
    this.#deps = deps;
    this.#worker = worker;
  }

  /**
   * The keys of the session from now on: a worker's own, or those of the workers behind a relay. One that is refused is
   * left out; what it has signed is taken without its signatures.
   */
  async announce({ signing_key, signing_keys = [] }: Keys): Promise<void> {
    const texts = [...new Set(signing_key === null ? signing_keys : [signing_key, ...signing_keys])].sort();
    const announced = texts.join(" ");
    if (announced === this.#announced) return;
    this.#announced = announced;
    const worker = this.#worker();
    const { accepted, refused } = await acceptSigningKeys(this.#deps.db, worker, texts);
    // A later message has announced others meanwhile.
    if (announced === this.#announced) this.#keys = accepted;
    for (const why of refused) {
      this.#deps.log.warn("a worker's signing key is not used", { worker: worker.workerId, why });
    }
  }

  /** What is left out is named in the log once a session: the upload itself is proven by its hash. */
  async verified(facts: SignedFacts, signatures: readonly string[] = []): Promise<string[]> {
    if (signatures.length === 0) return [];
    const verified = await verifiedSignatures(this.#keys, facts, signatures);
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
