import type { Derivation } from "#core/nix/derivation.ts";
import {
  type DerivationHash,
  inputHashOf,
  realisationHashOf,
  UnknownInputHashError,
} from "#core/nix/derivation-hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { DerivationFiles } from "./derivation-files.ts";
import { EvaluationError } from "./errors.ts";

export interface RealisationHashesOptions {
  readonly files: Pick<DerivationFiles, "read">;
  /** Of all derivations that are read for it. */
  readonly derivationsMax: number;
  /** Throws when the evaluation must not go on. */
  readonly check: () => void;
}

/**
 * Under which hashes caches know the outputs of derivations that do not state where these are. To compute one takes all
 * derivations below it: each is read once, and only where somebody asks.
 */
export class RealisationHashes {
  readonly #options: RealisationHashesOptions;
  readonly #known = new Map<StorePath, DerivationHash>();
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: RealisationHashesOptions) {
    this.#options = options;
  }

  /** Null where one below cannot be read, or there are too many: then nobody can say where the outputs are. */
  async of(derivation: Derivation): Promise<string | null> {
    // One after the other: they need the same.
    const hash = this.#last.then(() => this.#compute(derivation));
    this.#last = hash.catch(() => {});
    return await hash;
  }

  async #compute(derivation: Derivation): Promise<string | null> {
    try {
      for (const input of derivation.inputDerivations.keys()) await this.#learn(input);
      return await realisationHashOf(derivation, this.#known);
    } catch (error) {
      // What was aborted or takes too long ends the evaluation with its own words.
      this.#options.check();
      if (error instanceof EvaluationError || error instanceof UnknownInputHashError) return null;
      throw error;
    }
  }

  /** Depth first with a stack of our own: graphs are deeper than the machine's stack. */
  async #learn(root: StorePath): Promise<void> {
    const stack: StorePath[] = [root];
    const opened = new Set<StorePath>();
    for (let path = stack.at(-1); path !== undefined; path = stack.at(-1)) {
      this.#options.check();
      if (this.#known.has(path)) {
        stack.pop();
        continue;
      }
      if (this.#known.size >= this.#options.derivationsMax) throw tooMany(this.#options.derivationsMax);
      // Read twice rather than kept: some are megabytes.
      const { derivation } = await this.#options.files.read(path);
      const needed = isFixed(derivation) ? [] : [...derivation.inputDerivations.keys()];
      const missing = needed.filter((input) => !this.#known.has(input));
      if (missing.length === 0) {
        this.#known.set(path, await inputHashOf(derivation, this.#known));
        stack.pop();
        continue;
      }
      if (opened.has(path))
        throw new EvaluationError("derivation_unreadable", `${path} needs itself: verify the store`);
      opened.add(path);
      stack.push(...missing);
    }
  }
}

function isFixed({ outputs }: Derivation): boolean {
  return [...outputs.values()].every(({ hash }) => hash !== "" && hash !== "impure");
}

function tooMany(max: number): EvaluationError {
  return new EvaluationError("too_many_derivations", `more than ${max} derivations`);
}
