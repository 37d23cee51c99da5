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

export interface IngestDecision {
  readonly drvPath: string;
  readonly status: BuildStatus;
  readonly pendingDependencies: number;
  /** The row's state changes: it is new, opened again, or found available. */
  readonly changed: boolean;
  /** In the order of the node's dependencies. */
  readonly satisfied: readonly boolean[];
  readonly deterministicFailure: boolean;
  readonly available: ReadonlyMap<string, boolean>;
}

/**
 * Decides the state of every node of a batch. Nodes come bottom-up: each dependency is either an earlier node or in
 * `known`. `known` also holds the nodes whose rows exist already, with `available` as the caches have it now, so that
 * a lost output opens its build again.
 *
 * A failed build is opened again, because a new evaluation asks for it, unless its builder failed by itself: that
 * would only fail again. A build below such a failure fails with it.
 */
export function decideIngest(
  nodes: readonly IngestNode[],
  known: ReadonlyMap<string, KnownBuild>,
): readonly IngestDecision[] {
  const state = new Map(known);
  return nodes.map((node) => {
    const before = known.get(node.drvPath);
    const decision = decideNode(node, before, state);
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
  const decide = (status: BuildStatus, pending: number, deterministicFailure = false): IngestDecision => {
    const available = availableOutputs(node, status, before);
    const sameOutputs = node.outputs.every((output) => before?.available.get(output) === available.get(output));
    return {
      drvPath: node.drvPath,
      status,
      pendingDependencies: pending,
      changed: before?.status !== status || !sameOutputs,
      satisfied,
      deterministicFailure,
      available,
    };
  };

  const pending = satisfied.filter((value) => !value).length;
  if (node.pruned) return decide(statusOfPruned(before), 0);
  if (before && keeps(before, node)) {
    return { ...decide(before.status, pending), changed: false, deterministicFailure: before.deterministicFailure };
  }
  if (node.unsupported !== null) return decide(BuildStatus.FailedPermanent, pending, true);

  const dependencyFailed = node.dependencies.some(({ drvPath }) => {
    const status = state.get(drvPath)?.status;
    return status !== undefined && FAILED_BUILD.includes(status);
  });
  if (dependencyFailed) return decide(BuildStatus.DependencyFailed, pending);
  return decide(pending === 0 ? BuildStatus.Queued : BuildStatus.Created, pending);
}

/** Whether an existing build stays as it is: it is under way, or done and still there, or would only fail again. */
function keeps(before: KnownBuild, node: IngestNode): boolean {
  if (OPEN_BUILD.includes(before.status)) return true;
  if (before.status === BuildStatus.FailedPermanent && before.deterministicFailure) return true;
  const whole = node.outputs.every((output) => before.available.get(output) === true);
  return SUCCESSFUL_BUILD.includes(before.status) && whole;
}

/** A worker that builds it at this moment goes on; its result is near. */
function statusOfPruned(before: KnownBuild | undefined): BuildStatus {
  if (before?.status === BuildStatus.Building || before?.status === BuildStatus.Completed) return before.status;
  return BuildStatus.Substituted;
}

function availableOutputs(
  node: IngestNode,
  status: BuildStatus,
  before: KnownBuild | undefined,
): ReadonlyMap<string, boolean> {
  const isAvailable = (output: string) => {
    if (SUCCESSFUL_BUILD.includes(status)) return node.present.has(output);
    return before?.available.get(output) === true;
  };
  return new Map(node.outputs.map((output) => [output, isAvailable(output)]));
}
