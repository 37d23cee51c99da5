import { createHash } from "node:crypto";
import { encodeBase32 } from "#core/nix/base32.ts";
import { type Derivation, type DerivationOutput, derivationReferences, printDerivation } from "#core/nix/derivation.ts";
import { type DerivationHash, inputHashOf, realisationHashOf } from "#core/nix/derivation-hash.ts";
import { outputPlaceholder } from "#core/nix/derivation-resolve.ts";
import { derivationPath, parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";
import { type ParsedNode, parseNode } from "#core/services/transitions/parse-nodes.ts";
import { SYSTEM } from "./nodes.ts";

/** A node with its derivation's real bytes. */
export interface RealNode extends ParsedNode {
  readonly path: StorePath;
  readonly hash: DerivationHash;
}

export interface RealNodeOptions {
  readonly needs?: readonly RealNode[];
  readonly outputs?: readonly string[];
  /** What makes it another derivation of the same name. */
  readonly note?: string;
  readonly pruned?: boolean;
  /** False as of a worker that cannot tell. */
  readonly hashed?: boolean;
}

export const FLOATING: DerivationOutput = { path: "", hashAlgorithm: "r:sha256", hash: "" };
export const DEFERRED: DerivationOutput = { path: "", hashAlgorithm: "", hash: "" };

/** A derivation whose outputs are like `output`; it names what it needs by placeholders. */
export async function realNode(
  name: string,
  output: DerivationOutput,
  { needs = [], outputs = ["out"], note = "", pruned = false, hashed = true }: RealNodeOptions = {},
): Promise<RealNode> {
  const placeholders = await Promise.all(needs.map(({ path }) => outputPlaceholder(path, "out")));
  const derivation: Derivation = {
    outputs: new Map(outputs.toSorted().map((each) => [each, output])),
    inputDerivations: new Map(needs.map(({ path }) => [path, ["out"]])),
    inputSources: [],
    system: SYSTEM,
    builder: "/bin/sh",
    args: ["-c", `cat ${placeholders.join(" ")} > $out`],
    env: new Map(
      [
        ["name", name],
        ["note", note],
        ["out", output.path],
      ].toSorted() as [string, string][],
    ),
  };
  const aterm = printDerivation(derivation);
  const path = await derivationPath(name, aterm, derivationReferences(derivation));
  const inputs = new Map(needs.map((node) => [node.path, node.hash]));
  const realisationHash = hashed ? await realisationHashOf(derivation, inputs) : null;
  const node = await parseNode({ drvPath: path, aterm, pruned, ...(realisationHash && { realisationHash }) });
  return { ...node, path, hash: await inputHashOf(derivation, inputs) };
}

/** Where a builder may have put something of that name. */
export function madePath(name: string, content: string): StorePath {
  const hash = encodeBase32(createHash("sha256").update(`${name} ${content}`).digest().subarray(0, 20));
  return parseStorePathBaseName(`${hash}-${name}`) as StorePath;
}
