import type { DerivationOutput } from "#core/nix/derivation.ts";
import type { StorePath } from "#core/nix/store-path.ts";

export interface KnownQuestion {
  readonly drvPath: StorePath;
  /** The outputs that are needed, and their paths; null where only a build can tell. */
  readonly outputs: readonly { readonly name: string; readonly path: StorePath | null }[];
  /** Under which caches know where those outputs are (`realisationHashOf`), as far as it can be told. */
  readonly realisationHash?: string;
}

/** A derivation as a walk knows it. */
export interface Node {
  readonly path: StorePath;
  readonly inputs: readonly (readonly [StorePath, readonly string[]])[];
  readonly inputSources: readonly StorePath[];
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** Null where it has none, or it cannot be told. */
  readonly realisationHash: string | null;
  readonly wanted: Set<string>;
  /** The number of wanted outputs when it was last asked for: they only ever grow. */
  askedFor: number;
  isKnown: boolean;
  /** It is not known and something that is given needs it, so what is below it is needed too. */
  isExpanded: boolean;
  given: "no" | "pruned" | "expanded";
  aterm: Uint8Array | null;
}

export function needsGiving(node: Node): boolean {
  return node.given === "no" || (node.given === "pruned" && node.isExpanded);
}

export function questionOf(node: Node): KnownQuestion {
  const outputs = [...node.wanted].map((name) => {
    const path = node.outputs.get(name)?.path;
    return { name, path: path ? (path as StorePath) : null };
  });
  return { drvPath: node.path, outputs, ...hashField(node) };
}

export function hashField({ realisationHash }: Node): { readonly realisationHash?: string } {
  return realisationHash === null ? {} : { realisationHash };
}
