import { BuildStatus, FAILED_BUILD, OPEN_BUILD, SUCCESSFUL_BUILD } from "./states.ts";

/** What is known of a build before the batch, and what the batch says of it. Outputs are named, not paths. */
export interface IngestNode {
  readonly drvPath: string;
  /** The outputs that are wanted of it are in a cache that the organization reads: nothing below it was looked at. */
  readonly pruned: boolean;
  /** Why no worker can ever build it, or null. */
  readonly unsupported: string | null;
  readonly outputs: readonly string[];
  /** Those of its outputs that the caches have now. */
  readonly present: ReadonlySet<string>;
  readonly dependencies: readonly { readonly drvPath: string; readonly outputs: readonly string[] }[];
}

/** A build as the database has it, and as decisions leave it. */
export interface KnownBuild {
  readonly status: BuildStatus;
  readonly deterministicFailure: boolean;
  /** By output: whether its path is in a store that the organization reads. */
  readonly available: ReadonlyMap<string, boolean>;
}

export interface IngestDecision extends KnownBuild {
  readonly drvPath: string;
  /** The row's state changes: it is new, opened again, or found available. */
  readonly changed: boolean;
  /** In the order of the node's dependencies. */
  readonly satisfied: readonly boolean[];
}

/** Nobody makes their outputs any more; what was aborted in this evaluation is among them. */
const ENDED_IN_VAIN: readonly BuildStatus[] = [...FAILED_BUILD, BuildStatus.Aborted];

/**
 * What is wrong with a batch, or null: a derivation that comes twice or before one of its dependencies, and an output
 * that a dependency does not have (its dependent would wait for ever).
 */
export function findBatchFault(nodes: readonly IngestNode[], known: ReadonlyMap<string, KnownBuild>): string | null {
  const own = new Set(nodes.map(({ drvPath }) => drvPath));
  const outputs = new Map<string, { has(name: string): boolean }>();
  for (const [path, build] of known) if (!own.has(path)) outputs.set(path, build.available);
  for (const node of nodes) {
    if (outputs.has(node.drvPath)) return `${node.drvPath} comes twice in one batch`;
    for (const dependency of node.pruned ? [] : node.dependencies) {
      const has = outputs.get(dependency.drvPath);
      if (!has) return `${dependency.drvPath} is a dependency of ${node.drvPath}, but was not reported before it`;
      const missing = dependency.outputs.find((name) => !has.has(name));
      if (missing !== undefined)
        return `${node.drvPath} needs the output ${missing} of ${dependency.drvPath}, which has none of that name`;
    }
    outputs.set(node.drvPath, new Set(node.outputs));
  }
  return null;
}

/**
 * An output that a build would wait for although nothing is going to make it, or null: the caches lost it after the
 * worker asked, and its build counts as done.
 */
export function findLostOutput(
  nodes: readonly IngestNode[],
  decisions: readonly IngestDecision[],
  known: ReadonlyMap<string, KnownBuild>,
): string | null {
  const status = new Map(Array.from(known, ([path, build]) => [path, build.status]));
  for (const decision of decisions) status.set(decision.drvPath, decision.status);
  for (const [i, { pruned, dependencies }] of nodes.entries()) {
    const decision = decisions[i];
    if (pruned || !decision || !OPEN_BUILD.includes(decision.status)) continue;
    for (const [k, { drvPath, outputs }] of dependencies.entries()) {
      const below = status.get(drvPath);
      if (decision.satisfied[k] || below === undefined || OPEN_BUILD.includes(below)) continue;
      return `${drvPath}: ${outputs.join(", ")} is no longer available`;
    }
  }
  return null;
}

/**
 * Decides the state of every node of a batch without a fault. Nodes come bottom-up: each dependency is either an
 * earlier node or in `known`. `known` also holds the nodes whose rows exist already, with `available` as the caches
 * have it now, so that a lost output opens its build again.
 *
 * A failed build is opened again, because a new evaluation asks for it, unless its builder failed by itself: that
 * would only fail again. A build that waits for such a failure fails with it.
 */
export function decideIngest(
  nodes: readonly IngestNode[],
  known: ReadonlyMap<string, KnownBuild>,
): readonly IngestDecision[] {
  const state = new Map(known);
  return nodes.map((node) => {
    const decision = decideNode(node, known.get(node.drvPath), state);
    state.set(node.drvPath, decision);
    return decision;
  });
}

function decideNode(
  node: IngestNode,
  before: KnownBuild | undefined,
  state: ReadonlyMap<string, KnownBuild>,
): IngestDecision {
  const satisfied = node.dependencies.map(({ drvPath, outputs }) => {
    const dependency = state.get(drvPath);
    return dependency !== undefined && outputs.every((output) => dependency.available.get(output) === true);
  });
  const decide = (status: BuildStatus, deterministicFailure = false): IngestDecision => ({
    drvPath: node.drvPath,
    status,
    deterministicFailure,
    available: new Map(node.outputs.map((output) => [output, isAvailable(output, node, before, status)])),
    changed: before === undefined || before.status !== status,
    satisfied,
  });

  if (before && keeps(before, node)) return decide(before.status, before.deterministicFailure);
  if (node.pruned) return decide(BuildStatus.Substituted);
  if (node.unsupported !== null) return decide(BuildStatus.FailedPermanent, true);

  const waitsForFailed = node.dependencies.some(({ drvPath }, k) => {
    const status = state.get(drvPath)?.status;
    return !satisfied[k] && status !== undefined && ENDED_IN_VAIN.includes(status);
  });
  if (waitsForFailed) return decide(BuildStatus.DependencyFailed);
  return decide(satisfied.includes(false) ? BuildStatus.Created : BuildStatus.Queued);
}

/** Whether an existing build stays as it is: it is under way, or done and still there, or would only fail again. */
function keeps(before: KnownBuild, node: IngestNode): boolean {
  if (node.pruned) return keepsPruned(before, node);
  if (OPEN_BUILD.includes(before.status)) return true;
  if (before.status === BuildStatus.FailedPermanent && before.deterministicFailure) return true;
  const whole = node.outputs.every((output) => before.available.get(output) === true);
  return SUCCESSFUL_BUILD.includes(before.status) && whole;
}

function keepsPruned(before: KnownBuild, node: IngestNode): boolean {
  // What runs is not cut off when its outputs are found: most often they are its own, and its result is on the way.
  if (before.status === BuildStatus.Building || SUCCESSFUL_BUILD.includes(before.status)) return true;
  // Others may wait for the outputs that no cache has.
  return OPEN_BUILD.includes(before.status) && !node.outputs.every((output) => node.present.has(output));
}

function isAvailable(output: string, node: IngestNode, before: KnownBuild | undefined, status: BuildStatus): boolean {
  const was = before?.available.get(output) === true;
  if (!SUCCESSFUL_BUILD.includes(status)) return was;
  return node.present.has(output) || (was && before !== undefined && SUCCESSFUL_BUILD.includes(before.status));
}
