import type { ByteString } from "./byte-string.ts";
import type { StorePath } from "./store-path.ts";

/**
 * One output as the derivation states it. Input-addressed: a path alone. Fixed: path, algorithm (`r:` in front when
 * the hash is of the NAR) and hash in hexadecimal. Floating content-addressed: the algorithm alone. Impure: the
 * algorithm, and the hash is the word `impure`. Deferred: all three empty.
 */
export interface DerivationOutput {
  readonly path: string;
  readonly hashAlgorithm: string;
  readonly hash: string;
}

/**
 * A parsed `.drv` file. Builder, arguments and environment are byte strings (`byte-string.ts`): what is not UTF-8 in
 * them survives parsing and printing. Maps iterate in the order of the file, which is bytewise ascending.
 */
export interface Derivation {
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** For each derivation that must be built first, the names of the outputs that are needed. */
  readonly inputDerivations: ReadonlyMap<StorePath, readonly string[]>;
  readonly inputSources: readonly StorePath[];
  readonly system: string;
  readonly builder: ByteString;
  readonly args: readonly ByteString[];
  readonly env: ReadonlyMap<ByteString, ByteString>;
}

/** The bytes are no derivation, or one beyond the limits. */
export class DerivationParseError extends Error {
  override readonly name = "DerivationParseError";
  /** In bytes from the start of the file; null when the fault has no place (a value that contradicts another). */
  readonly offset: number | null;
  /** A derivation whose inputs are only known while it is built: well-formed, but not supported. */
  readonly isDynamic: boolean;

  constructor(message: string, { offset, isDynamic = false }: { offset: number | null; isDynamic?: boolean }) {
    super(offset === null ? `derivation: ${message}` : `derivation: ${message} (at byte ${offset})`);
    this.offset = offset;
    this.isDynamic = isDynamic;
  }
}
