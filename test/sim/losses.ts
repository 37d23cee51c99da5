import { type StorePath, storePathBaseName } from "#core/nix/store-path.ts";
import { narOf } from "#core/services/nar.ts";
import { reportDamage } from "#core/services/nar-damage.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import type { Random } from "./random.ts";
import type { Simulator } from "./simulator.ts";

interface LossesOptions {
  readonly random: Random;
  readonly simulator: Simulator;
  readonly blobs: Map<string, Uint8Array>;
  /** Of some server that runs. */
  readonly deps: () => HubDeps | null;
}

/** Stored outputs that are no longer what they were. Somebody finds out at once, or when they are wanted. */
export class Losses {
  readonly #options: LossesOptions;
  readonly #paths = new Set<string>();
  readonly #keys = new Set<string>();

  constructor(options: LossesOptions) {
    this.#options = options;
  }

  /** Whether this path was lost at any time. */
  includes(path: StorePath): boolean {
    return this.#paths.has(storePathBaseName(path));
  }

  /** Base names. */
  get paths(): ReadonlySet<string> {
    return this.#paths;
  }

  /** Whether this object was removed. */
  removed(objectKey: string): boolean {
    return this.#keys.has(objectKey);
  }

  cause(): void {
    const { random, simulator, deps } = this.#options;
    const fraction = random.next();
    const isSeen = random.chance(0.6);
    const server = deps();
    if (!server) return;
    this.#lose(server, fraction, isSeen).catch((error: unknown) =>
      simulator.note(`nothing was lost: ${String(error)}`),
    );
  }

  async #lose(deps: HubDeps, fraction: number, isSeen: boolean): Promise<void> {
    const outputs = await deps.db
      .selectFrom("build_output")
      .innerJoin("cache_path", "cache_path.store_path", "build_output.store_path")
      .innerJoin("nar", "nar.nar_hash", "cache_path.nar_hash")
      .select("cache_path.store_path")
      .select(["nar.nar_hash", "nar_size", "file_hash", "file_size", "compression", "object_key"])
      .where("damaged_at", "is", null)
      .orderBy("nar.nar_hash")
      .orderBy("object_key")
      .execute();
    const lost = outputs[Math.floor(fraction * outputs.length)];
    if (!lost) return;
    this.#options.simulator.note(`${lost.store_path} is lost, and ${isSeen ? "somebody sees it" : "nobody sees it"}`);
    this.#paths.add(lost.store_path);
    this.#keys.add(lost.object_key);
    this.#options.blobs.delete(lost.object_key);
    if (isSeen) await reportDamage(deps, narOf(lost), { fault: "missing", message: "its object is gone" });
  }
}
