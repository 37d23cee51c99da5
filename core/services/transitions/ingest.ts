import type { Transaction } from "kysely";
import { shareOpenAttempt } from "../../db/attempts.ts";
import { endEvaluations, listEvaluationsOfBuilds, listEvaluationsToEnd } from "../../db/evaluation-end.ts";
import { insertEntryPoints, insertMessage, linkBuilds, listLinkedBuilds } from "../../db/evaluation-graph.ts";
import {
  type BuildStateChange,
  type GraphBuild,
  type GraphEdge,
  insertBuildParts,
  insertBuilds,
  insertEdges,
  lockBuildsByPath,
  lockGraph,
  type NewGraphBuild,
  setOutputsAvailable,
  settleEdgesAbove,
  updateBuildStates,
} from "../../db/graph.ts";
import { completeBuilds, type OutputPlace, type Resolution, setOutputPlaces } from "../../db/resolutions.ts";
import type { Database } from "../../db/schema.ts";
import type { IngestDecision } from "../../domain/ingest.ts";
import { BuildStatus, EVALUATING, FAILED_BUILD, MessageLevel } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { derivedUuid, uuidV7 } from "../../lib/ids.ts";
import { failDependents } from "./build-end.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import { decideBatch, presentOutputs, readKnown } from "./ingest-facts.ts";
import { placeOutputs, resolutionsOf } from "./ingest-places.ts";
import type { ParsedNode } from "./parse-nodes.ts";

export interface IngestBatch {
  readonly nodes: readonly ParsedNode[];
  readonly entryPoints: readonly { readonly attribute: readonly string[]; readonly drvPath: string }[];
}

/**
 * Records one batch of an evaluation's graph in one transaction. Nodes come bottom-up: every dependency is in this
 * batch or was in an earlier one. Repeating a batch changes nothing.
 *
 * False when the attempt's lease no longer holds. Throws `conflict` when the batch says a derivation is available that
 * is not, or names a derivation that this evaluation has not reported: the evaluation has to be done again. Throws
 * `validation` for what no repetition makes right.
 */
export async function ingestBatch(deps: TransitionDeps, attemptId: string, batch: IngestBatch): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    const attempt = await shareOpenAttempt(trx, attemptId);
    if (!attempt?.evaluation_id) return false;
    const evaluationId = attempt.evaluation_id;
    // Holds off an abort, which locks for update, but no build that ends and looks whether it was the last one.
    const active = await trx
      .selectFrom("evaluation")
      .select("id")
      .where("id", "=", evaluationId)
      .where("status", "in", [...EVALUATING])
      .forKeyShare()
      .executeTakeFirst();
    if (!active) return false;

    const graph = await Graph.open(trx, deps, { ...batch, evaluationId, organizationId: attempt.organization_id });
    const { ready, changed } = await graph.record();
    await linkBuilds(
      trx,
      evaluationId,
      batch.nodes.map(({ drvPath }) => ({ id: newId(deps), build_id: graph.id(drvPath) })),
    );
    await insertEntryPoints(
      trx,
      evaluationId,
      batch.entryPoints.map(({ attribute, drvPath }) => ({ id: newId(deps), attribute, build_id: graph.id(drvPath) })),
    );
    for (const { drvPath, unsupported } of batch.nodes) {
      if (unsupported === null) continue;
      await insertMessage(trx, {
        id: await derivedUuid(evaluationId, drvPath),
        evaluation_id: evaluationId,
        level: MessageLevel.Error,
        message: `${drvPath}: ${unsupported}`,
        source: "scheduler",
        attribute: null,
      });
    }
    // Builds that were found available may have been the last ones of other evaluations.
    wakeups.evaluations([evaluationId, ...(await listEvaluationsOfBuilds(trx, changed))]);
    await endEvaluations(trx, await listEvaluationsToEnd(trx, changed));
    if (ready) wakeups.work(attempt.organization_id);
    return true;
  });
}

interface OpenBatch extends IngestBatch {
  readonly evaluationId: string;
  readonly organizationId: string;
}

/** The rows that one batch touches, by derivation path. */
class Graph {
  readonly #trx: Transaction<Database>;
  readonly #batch: OpenBatch;
  readonly #decisions: readonly IngestDecision[];
  /** Those that were there before the batch, locked. */
  readonly #rows: ReadonlyMap<string, GraphBuild>;
  /** The ids of those that come with it. */
  readonly #fresh: ReadonlyMap<string, string>;
  /** The cache that has each output path of the batch, where one has it. */
  readonly #present: ReadonlyMap<string, string>;
  /** Of outputs without paths of their own, for builds that were there. */
  readonly #places: readonly OutputPlace[];
  readonly #resolutions: ReadonlyMap<string, Resolution>;

  private constructor(
    trx: Transaction<Database>,
    batch: OpenBatch,
    found: {
      readonly decisions: readonly IngestDecision[];
      readonly rows: ReadonlyMap<string, GraphBuild>;
      readonly fresh: ReadonlyMap<string, string>;
      readonly present: ReadonlyMap<string, string>;
      readonly places: readonly OutputPlace[];
    },
  ) {
    this.#trx = trx;
    this.#batch = batch;
    this.#decisions = found.decisions;
    this.#rows = found.rows;
    this.#fresh = found.fresh;
    this.#present = found.present;
    this.#places = found.places;
    this.#resolutions = resolutionsOf(batch.nodes, found.rows);
  }

  /**
   * Locks what is there, and only then reads the states that decisions rest on: a success that is under way either is
   * committed before and seen here, or waits and then sees our edges.
   */
  static async open(trx: Transaction<Database>, deps: TransitionDeps, batch: OpenBatch): Promise<Graph> {
    const { organizationId } = batch;
    const own = new Set(batch.nodes.map(({ drvPath }) => drvPath));
    const named = [...batch.nodes.flatMap((node) => (node.pruned ? [] : node.dependencies)), ...batch.entryPoints];
    const others = [...new Set(named.map(({ drvPath }) => drvPath))].filter((path) => !own.has(path));
    await lockGraph(trx, organizationId);
    const locked = await lockBuildsByPath(trx, organizationId, [...own, ...others]);
    const rows = new Map(locked.map((row) => [row.drv_path, row]));
    const fresh = new Map([...own].filter((path) => !rows.has(path)).map((path) => [path, newId(deps)]));
    await requireReported(trx, batch.evaluationId, others, rows);
    const { nodes, places } = await placeOutputs(trx, organizationId, batch.nodes, rows);
    const present = await presentOutputs(trx, organizationId, nodes);
    const expanded = new Set(nodes.filter(({ pruned }) => !pruned).map(({ drvPath }) => drvPath));
    const known = await readKnown(trx, locked, expanded, present);
    const decisions = decideBatch(nodes, known, present);
    return new Graph(trx, { ...batch, nodes }, { decisions, rows, fresh, present, places });
  }

  id(drvPath: string): string {
    const id = this.#rows.get(drvPath)?.id ?? this.#fresh.get(drvPath);
    if (id === undefined) throw new DomainError("conflict", `${drvPath} is an entry point, but was not reported`);
    return id;
  }

  /** Writes the decisions. `ready`: a worker may have something to take. */
  async record(): Promise<{ readonly ready: boolean; readonly changed: readonly string[] }> {
    const trx = this.#trx;
    const decided = this.#batch.nodes.map((node, i) => ({ node, decision: this.#decisions[i] as IngestDecision }));
    const fresh = decided.filter(({ node }) => this.#fresh.has(node.drvPath));
    const old = decided.filter(({ node }) => !this.#fresh.has(node.drvPath));

    await setOutputPlaces(trx, this.#places);
    await completeBuilds(
      trx,
      old.flatMap((item) => this.#completion(item)),
    );
    const cameOrWent = await setOutputsAvailable(
      trx,
      old.flatMap((item) => this.#outputs(item)),
    );
    const unblocked = cameOrWent.length > 0 && (await settleEdgesAbove(trx, cameOrWent));
    await insertBuilds(
      trx,
      this.#batch.organizationId,
      fresh.map((item) => this.#newBuild(item)),
    );
    await insertBuildParts(trx, this.#newParts(fresh));
    await insertEdges(
      trx,
      decided.flatMap((item) => this.#edges(item)),
    );
    const changes = old.flatMap((item) => this.#change(item));
    await updateBuildStates(trx, changes);

    const failed = changes.filter(({ status }) => FAILED_BUILD.includes(status)).map(({ id }) => id);
    const failedAbove = failed.length > 0 ? await failDependents(trx, failed) : [];
    // What was ready before is skipped by whoever claims while it is locked here.
    const wasReady = [...this.#rows.values()].some(({ status }) => status === BuildStatus.Queued);
    const isReady = decided.some(({ decision }) => decision.status === BuildStatus.Queued);
    return { ready: unblocked || wasReady || isReady, changed: [...changes.map(({ id }) => id), ...failedAbove] };
  }

  #newBuild({ node, decision }: Decided): NewGraphBuild {
    const unsatisfied = node.pruned ? [] : decision.satisfied.filter((satisfied) => !satisfied);
    const state = this.#state({ node, decision }, node.pruned);
    return {
      ...state,
      ...node.row,
      drv_path: node.drvPath,
      pending_dependencies: unsatisfied.length,
      resolution: this.#resolutionOf(node),
      realisation_hash: node.realisationHash,
    };
  }

  #completion({ node }: Decided) {
    const resolution = this.#resolutionOf(node);
    if (resolution === 0 && node.realisationHash === null) return [];
    return [{ id: this.id(node.drvPath), realisation_hash: node.realisationHash, resolution }];
  }

  #resolutionOf({ drvPath }: ParsedNode): Resolution {
    return this.#resolutions.get(drvPath) as Resolution;
  }

  #newParts(fresh: readonly Decided[]) {
    return {
      derivations: fresh.map(({ node }) => ({ build_id: this.id(node.drvPath), aterm: node.aterm })),
      outputs: fresh.flatMap((item) => {
        const paths = new Map(item.node.outputs.map(({ name, path }) => [name, path]));
        return this.#outputs(item).map((output) => ({ ...output, store_path: paths.get(output.name) ?? null }));
      }),
      sources: fresh.flatMap(({ node }) =>
        node.sources.map((store_path) => ({ build_id: this.id(node.drvPath), store_path })),
      ),
    };
  }

  #change({ node, decision }: Decided): BuildStateChange[] {
    const wasPruned = (this.#rows.get(node.drvPath)?.pruned_at ?? null) !== null;
    const expandsPruned = wasPruned && !node.pruned;
    if (!decision.changed && !expandsPruned) return [];
    // A row whose edges were recorded once keeps them.
    return [this.#state({ node, decision }, node.pruned && wasPruned)];
  }

  #state({ node, decision }: Decided, pruned: boolean): BuildStateChange {
    return {
      id: this.id(node.drvPath),
      status: decision.status,
      deterministic_failure: decision.deterministicFailure,
      pruned,
      pruned_cache_id: pruned ? this.#proof(node) : null,
    };
  }

  /** The cache that has an output of a pruned node. */
  #proof({ drvPath, outputs }: ParsedNode): string {
    const cacheId = outputs.map(({ path }) => this.#present.get(path ?? "")).find((id) => id !== undefined);
    if (cacheId === undefined) throw new DomainError("conflict", `${drvPath} is no longer available`);
    return cacheId;
  }

  #outputs({ node, decision }: Decided) {
    const build_id = this.id(node.drvPath);
    return Array.from(decision.available, ([name, available]) => ({ build_id, name, available }));
  }

  #edges({ node, decision }: Decided): GraphEdge[] {
    if (node.pruned) return [];
    return node.dependencies.map(({ drvPath, outputs }, k) => ({
      build_id: this.id(node.drvPath),
      dependency_id: this.id(drvPath),
      outputs,
      satisfied: decision.satisfied[k] ?? false,
    }));
  }
}

interface Decided {
  readonly node: ParsedNode;
  readonly decision: IngestDecision;
}

/** Throws unless the evaluation itself has reported these: what it does not link may be aborted under it. */
async function requireReported(
  trx: Transaction<Database>,
  evaluationId: string,
  paths: readonly string[],
  rows: ReadonlyMap<string, GraphBuild>,
): Promise<void> {
  const ids = paths.flatMap((path) => rows.get(path)?.id ?? []);
  const linked = await listLinkedBuilds(trx, evaluationId, ids);
  const missing = paths.find((path) => !linked.has(rows.get(path)?.id ?? ""));
  if (missing !== undefined) {
    throw new DomainError("conflict", `${missing} is a dependency or an entry point, but was not reported before`);
  }
}

function newId({ clock, random }: TransitionDeps): string {
  return uuidV7(clock.now(), random);
}
