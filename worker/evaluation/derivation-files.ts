import { type Derivation, DerivationParseError, parseDerivation, verifyDerivationPath } from "#core/nix/derivation.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { EvaluationError } from "./errors.ts";
import { readPlainFile } from "./plain-file.ts";

export interface DerivationFile {
  readonly aterm: Uint8Array;
  readonly derivation: Derivation;
}

const DYNAMIC =
  "needs what a derivation makes that a build makes (`builtins.outputOf`): dynamic derivations are not built here";

/** Reads `.drv` files from the real folder of a store and proves that they are what their paths say. */
export class DerivationFiles {
  readonly #storeRoot: string;
  readonly #bytesMax: number;

  constructor(storeRoot: string, bytesMax: number) {
    this.#storeRoot = storeRoot;
    this.#bytesMax = bytesMax;
  }

  /**
   * Throws `EvaluationError`: without one of its derivations a graph means nothing. Where the file is sound, and of a
   * kind that is not built, its code is `derivation_unsupported`.
   */
  async read(path: StorePath): Promise<DerivationFile> {
    const aterm = await this.#readBytes(path);
    try {
      const derivation = parseDerivation(aterm);
      if (await verifyDerivationPath(path, aterm, derivation)) return { aterm, derivation };
    } catch (error) {
      if (!(error instanceof DerivationParseError)) throw error;
      if (error.isDynamic) throw unsupported(path, error);
      throw unreadable(path, error.message, error);
    }
    throw unreadable(path, "its content does not belong to its path: verify the store (`nix store verify --all`)");
  }

  async #readBytes(path: StorePath): Promise<Uint8Array> {
    // A flake says which path is its derivation.
    return await readPlainFile(`${this.#storeRoot}${path}`, this.#bytesMax).catch((error: Error) => {
      throw unreadable(path, error.message, error);
    });
  }
}

function unreadable(path: StorePath, reason: string, cause?: unknown): EvaluationError {
  return new EvaluationError("derivation_unreadable", `${path} cannot be read: ${reason}`, { cause });
}

function unsupported(path: StorePath, cause: DerivationParseError): EvaluationError {
  return new EvaluationError("derivation_unsupported", `${path} ${DYNAMIC}`, { cause });
}
