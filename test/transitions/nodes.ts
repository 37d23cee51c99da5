import { createHash } from "node:crypto";
import { encodeBase32 } from "#core/nix/base32.ts";
import type { ParsedNode } from "#core/services/transitions/parse-nodes.ts";

export const SYSTEM = "x86_64-linux";

export interface NodeOptions {
  /** `name`, or `name:output`; without one it is `out`. */
  readonly needs?: readonly string[];
  readonly outputs?: readonly string[];
  readonly pruned?: boolean;
  readonly unsupported?: string;
  readonly system?: string;
  readonly features?: readonly string[];
}

/** A derivation called `name`, as ingest gets it from the parser. */
export function node(name: string, options: NodeOptions = {}): ParsedNode {
  const { needs = [], outputs = ["out"], pruned = false, unsupported = null, features = [] } = options;
  const wanted = Map.groupBy(needs, (need) => drvPathOf(need.split(":")[0] as string));
  return {
    drvPath: drvPathOf(name),
    aterm: new TextEncoder().encode(name),
    pruned,
    unsupported,
    addressing: "input",
    realisationHash: null,
    outputs: outputs.map((output) => ({ name: output, path: unsupported ? null : outputPathOf(name, output) })),
    dependencies: Array.from(wanted, ([drvPath, list]) => ({
      drvPath,
      outputs: list.map((need) => need.split(":")[1] ?? "out"),
    })),
    sources: [],
    row: {
      name,
      system: options.system ?? SYSTEM,
      required_features: features,
      prefer_local_build: false,
      allow_substitutes: true,
      fixed_output: false,
      timeout_seconds: null,
      max_silent_seconds: null,
    },
  };
}

export function drvPathOf(name: string): string {
  return `${hashPart(name)}-${name}.drv`;
}

export function outputPathOf(name: string, output = "out"): string {
  return `${hashPart(`${name}:${output}`)}-${name}`;
}

/** The name that `drvPathOf` was given. */
export function nameOf(drvPath: string): string {
  return drvPath.slice(33, -".drv".length);
}

function hashPart(text: string): string {
  return encodeBase32(createHash("sha256").update(text).digest().subarray(0, 20));
}
