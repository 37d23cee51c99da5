import { DomainError } from "../../errors.ts";
import {
  type Derivation,
  type DerivationFacts,
  DerivationParseError,
  derivationFacts,
  parseDerivation,
  verifyDerivationPath,
} from "../../nix/derivation.ts";
import { type StorePath, storePathBaseName, storePathName } from "../../nix/store-path.ts";

/** A derivation as an evaluation reported it, read from its own bytes. Paths are base names. */
export interface ParsedNode {
  readonly drvPath: string;
  readonly aterm: Uint8Array;
  readonly pruned: boolean;
  /** Why no worker can build it, or null. */
  readonly unsupported: string | null;
  /** How its outputs get their paths. Those of `floating` ones follow from content, those of `deferred` from inputs. */
  readonly addressing: "input" | "fixed" | "floating" | "deferred";
  /** As the worker says (`realisationHashOf`): nothing less than all derivations below it would prove it. */
  readonly realisationHash: string | null;
  readonly outputs: readonly { readonly name: string; readonly path: string | null }[];
  readonly dependencies: readonly { readonly drvPath: string; readonly outputs: readonly string[] }[];
  readonly sources: readonly string[];
  readonly row: {
    readonly name: string;
    readonly system: string;
    readonly required_features: readonly string[];
    readonly prefer_local_build: boolean;
    readonly allow_substitutes: boolean;
    readonly fixed_output: boolean;
    readonly timeout_seconds: number | null;
    readonly max_silent_seconds: number | null;
  };
}

/** The system of derivations that Nix builds by itself: any worker takes them. */
const BUILTIN_SYSTEM = "builtin";

/** What floating outputs are addressed by; `text` is for derivations that make derivations. */
const FLOATING_KIND = /^(?:r:)?(?:md5|sha1|sha256|sha512)$/;

/** The longest name that a store path can have; systems and features that a worker can offer are no longer. */
const WORD_LENGTH_MAX = 211;
const FEATURES_MAX = 256;
const TOO_LONG =
  `its name, system or one of its features is longer than ${WORD_LENGTH_MAX} characters, ` +
  `or there are more than ${FEATURES_MAX} features`;

/** A derivation as a worker sent it. */
export interface ReportedNode {
  readonly drvPath: StorePath;
  readonly aterm: Uint8Array;
  readonly pruned: boolean;
  /** Where its outputs have no paths, and the worker knows it: 64 hexadecimal digits. */
  readonly realisationHash?: string;
}

/** The same for a whole batch, in its order: the platform computes digests on threads of its own, side by side. */
export async function parseNodes(nodes: readonly ReportedNode[]): Promise<ParsedNode[]> {
  return await Promise.all(nodes.map(parseNode));
}

/**
 * Reads a `.drv` file that a worker sent. Nothing that the worker says of it is believed but its bytes, and those only
 * when the path follows from them. Throws `validation` with the path and what is wrong.
 */
export async function parseNode(node: ReportedNode): Promise<ParsedNode> {
  const { drvPath, aterm } = node;
  try {
    const derivation = parseDerivation(aterm);
    if (!(await verifyDerivationPath(drvPath, aterm, derivation))) {
      throw new DomainError("validation", `${drvPath}: the path does not follow from the derivation's bytes`);
    }
    const facts = derivationFacts(derivation);
    // No text of PostgreSQL holds one, and no derivation that Nix made.
    if ([facts.name, facts.system, ...facts.requiredSystemFeatures].some((word) => word.includes("\0"))) {
      throw new DomainError("validation", `${drvPath}: its name, system or features hold a NUL character`);
    }
    const words = [facts.name, facts.system, ...facts.requiredSystemFeatures];
    if (words.some((word) => word.length > WORD_LENGTH_MAX) || facts.requiredSystemFeatures.length > FEATURES_MAX) {
      throw new DomainError("validation", `${drvPath}: ${TOO_LONG}`);
    }
    return toNode(node, derivation, facts);
  } catch (error) {
    if (!(error instanceof DerivationParseError)) throw error;
    throw new DomainError("validation", `${drvPath}: ${error.message}`, { cause: error });
  }
}

function toNode(
  { drvPath, aterm, pruned, realisationHash }: ReportedNode,
  derivation: Derivation,
  facts: DerivationFacts,
): ParsedNode {
  const addressing = addressingOf(facts);
  const isKnown = addressing === "input" || addressing === "fixed";
  return {
    drvPath: storePathBaseName(drvPath),
    aterm,
    pruned,
    unsupported: unsupportedKind(derivation, facts),
    addressing,
    realisationHash: isKnown ? null : (realisationHash ?? null),
    outputs: facts.outputs.map(({ name, path }) => ({ name, path: path === null ? null : storePathBaseName(path) })),
    dependencies: Array.from(derivation.inputDerivations, ([path, outputs]) => ({
      drvPath: storePathBaseName(path),
      outputs,
    })),
    sources: derivation.inputSources.map(storePathBaseName),
    row: {
      name: facts.name || storePathName(drvPath).replace(/\.drv$/, ""),
      system: facts.isBuiltin ? BUILTIN_SYSTEM : facts.system,
      required_features: facts.requiredSystemFeatures,
      prefer_local_build: facts.preferLocalBuild,
      allow_substitutes: facts.allowSubstitutes,
      fixed_output: facts.isFixedOutput,
      timeout_seconds: facts.timeoutSeconds,
      max_silent_seconds: facts.maxSilentSeconds,
    },
  };
}

function addressingOf({ isFixedOutput, isContentAddressed, isDeferred }: DerivationFacts): ParsedNode["addressing"] {
  if (isContentAddressed) return "floating";
  if (isDeferred) return "deferred";
  return isFixedOutput ? "fixed" : "input";
}

function unsupportedKind({ outputs }: Derivation, facts: DerivationFacts): string | null {
  if (facts.isImpure) {
    return "it is an impure derivation (`__impure`), which is not built here: what it makes may not be cached";
  }
  const kinds = facts.isContentAddressed ? [...outputs.values()].map(({ hashAlgorithm }) => hashAlgorithm) : [];
  const other = kinds.find((kind) => !FLOATING_KIND.test(kind));
  if (other === undefined) return null;
  const advice = 'set `outputHashMode` to "recursive" or "flat", and `outputHashAlgo` to "sha256"';
  return `it is content-addressed as ${other}, which is not built here: ${advice}`;
}
