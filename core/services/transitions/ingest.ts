import type { Transaction } from "kysely";
import { shareOpenAttempt } from "../../db/attempts.ts";
import { insertEntryPoints, insertMessage, linkBuilds } from "../../db/evaluation-graph.ts";
import {
  type GraphBuild,
  insertBuildParts,
  insertBuilds,
  listBuildOutputs,
  lockBuildsByPath,
  setOutputsAvailable,
  settleEdgesAbove,
  updateBuildStates,
  upsertEdges,
} from "../../db/graph.ts";
import type { Database } from "../../db/schema.ts";
import { decideIngest, type IngestDecision, type KnownBuild } from "../../domain/ingest.ts";
import { EVALUATING, MessageLevel } from "../../domain/states.ts";
import { DomainError } from "../../errors.ts";
import { derivedUuid, uuidV7 } from "../../lib/ids.ts";
import { parseStorePathBaseName, type StorePath } from "../../nix/store-path.ts";
import { availablePaths } from "../paths-availability.ts";
import { type TransitionDeps, transition } from "./deps.ts";
import type { ParsedNode } from "./parse-nodes.ts";

export interface IngestBatch {
  readonly nodes: readonly ParsedNode[];
  readonly entryPoints: readonly { readonly attribute: readonly string[]; readonly drvPath: string }[];
}

/**
 * Records one batch of an evaluation's graph in one transaction. Nodes come bottom-up: every dependency is in this batch
 * or was in an earlier one. Repeating a batch changes nothing.
 *
 * False when the attempt's lease no longer holds. Throws `conflict` when the batch says a derivation is available that
 * is not, or names a dependency that nobody has recorded: the evaluation has to be done again.
 */
export async function ingestBatch(deps: TransitionDeps, attemptId: string, batch: IngestBatch): Promise<boolean> {
  return await transition(deps, async (trx, wakeups) => {
    const attempt = await shareOpenAttempt(trx, attemptId);
    if (!attempt?.evaluation_id) return false;
    const evaluationId = attempt.evaluation_id;
    const active = await trx
      .selectFrom("evaluation")
      .select("id")
      .where("id", "=", evaluationId)
      .where("status", "in", [...EVALUATING])
      .forShare()
      .executeTakeFirst();
    if (!active) return false;

    const graph = await Graph.open(trx, deps, attempt.organization_id, batch.nodes);
    const ready = await graph.record();
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
    wakeups.evaluations([evaluationId]);
    if (ready) wakeups.work(attempt.organization_id);
    return true;
  });
}

/** The rows that one batch touches, by derivation path. */
class Graph {
  readonly #trx: Transaction<Database>;
  readonly #nodes: readonly ParsedNode[];
  readonly #rows: ReadonlyMap<string, GraphBuild>;
  readonly #created: ReadonlySet<string>;
  readonly #known: ReadonlyMap<string, KnownBuild>;
  /** The cache that has each output path of the batch, where one has it. */
  readonly #present: ReadonlyMap<string, string>;

  private constructor(
    trx: Transaction<Database>,
    nodes: readonly ParsedNode[],
    found: {
      readonly rows: ReadonlyMap<string, GraphBuild>;
      readonly created: ReadonlySet<string>;
      readonly known: ReadonlyMap<string, KnownBuild>;
      readonly present: ReadonlyMap<string, string>;
    },
  ) {
    this.#trx = trx;
    this.#nodes = nodes;
    this.#rows = found.rows;
    this.#created = found.created;
    this.#known = found.known;
    this.#present = found.present;
  }

  /**
   * Inserts what is new, locks what is there, and only then reads the states that decisions rest on: a success that is
   * under way either is committed before and seen here, or waits and then sees our edges.
   */
  static async open(
    trx: Transaction<Database>,
    deps: TransitionDeps,
    organizationId: string,
    nodes: readonly ParsedNode[],
  ): Promise<Graph> {
    const own = nodes.map(({ drvPath }) => drvPath);
    const ownSet = new Set(own);
    const others = [...new Set(nodes.flatMap((node) => node.dependencies.map(({ drvPath }) => drvPath)))].filter(
      (path) => !ownSet.has(path),
    );
    const created = new Set(
      await insertBuilds(
        trx,
        organizationId,
        nodes.map((node) => ({ id: newId(deps), drv_path: node.drvPath, ...node.row })),
      ),
    );
    const dependencies = await lockBuildsByPath(trx, organizationId, others, "share");
    const existing = await lockBuildsByPath(trx, organizationId, own, "update");
    const rows = new Map([...dependencies, ...existing].map((row) => [row.drv_path, row]));
    for (const path of others) {
      if (!rows.has(path)) throw new DomainError("conflict", `${path} is a dependency, but was not reported before`);
    }
    await insertBuildParts(trx, newParts(nodes, rows, created));
    const present = await presentOutputs(trx, organizationId, nodes);
    const old = [...rows.values()].filter(({ id }) => !created.has(id));
    const known = await readKnown(trx, old, ownSet, present);
    return new Graph(trx, nodes, { rows, created, known, present });
  }

  id(drvPath: string): string {
    const row = this.#rows.get(drvPath);
    if (!row) throw new DomainError("conflict", `${drvPath} is an entry point, but was not reported`);
    return row.id;
  }

  /** The cache that has an output of a pruned node. Throws when none has any, after all. */
  #proof({ drvPath, outputs }: ParsedNode): string {
    const cacheId = outputs.map(({ path }) => this.#present.get(path ?? "")).find((id) => id !== undefined);
    if (cacheId === undefined) throw new DomainError("conflict", `${drvPath} is no longer available`);
    return cacheId;
  }

  /** Writes the decisions. True when a build became ready. */
  async record(): Promise<boolean> {
    const decisions = decideIngest(
      this.#nodes.map((node) => ({
        ...node,
        outputs: node.outputs.map(({ name }) => name),
        present: new Set(node.outputs.filter(({ path }) => path && this.#present.has(path)).map(({ name }) => name)),
      })),
      this.#known,
    );
    await upsertEdges(
      this.#trx,
      this.#nodes.flatMap((node, i) =>
        node.pruned
          ? []
          : node.dependencies.map(({ drvPath, outputs }, k) => ({
              build_id: this.id(node.drvPath),
              dependency_id: this.id(drvPath),
              outputs,
              satisfied: decisions[i]?.satisfied[k] ?? false,
            })),
      ),
    );
    await this.#recordOutputs(decisions);
    const changes = this.#nodes.flatMap((node, i) => this.#change(node, decisions[i] as IngestDecision));
    await updateBuildStates(this.#trx, changes);
    const existing = changes.map(({ id }) => id).filter((id) => !this.#created.has(id));
    const unblocked = existing.length > 0 && (await settleEdgesAbove(this.#trx, existing));
    return unblocked || changes.some(({ status }) => status === 1);
  }

  #change(node: ParsedNode, decision: IngestDecision) {
    const id = this.id(node.drvPath);
    const expandsPruned = !node.pruned && (this.#rows.get(node.drvPath)?.pruned_at ?? null) !== null;
    if (!decision.changed && !this.#created.has(id) && !expandsPruned) return [];
    return [
      {
        id,
        status: decision.status,
        pending_dependencies: decision.pendingDependencies,
        deterministic_failure: decision.deterministicFailure,
        pruned: node.pruned,
        pruned_cache_id: node.pruned ? this.#proof(node) : null,
      },
    ];
  }

  async #recordOutputs(decisions: readonly IngestDecision[]): Promise<void> {
    const outputs = decisions.flatMap(({ drvPath, available }) =>
      Array.from(available, ([name, value]) => ({ build_id: this.id(drvPath), name, available: value })),
    );
    await setOutputsAvailable(this.#trx, outputs);
  }
}

function newParts(nodes: readonly ParsedNode[], rows: ReadonlyMap<string, GraphBuild>, created: ReadonlySet<string>) {
  const id = (node: ParsedNode) => (rows.get(node.drvPath) as GraphBuild).id;
  const fresh = nodes.filter((node) => created.has(id(node)));
  return {
    derivations: fresh.map((node) => ({ build_id: id(node), aterm: node.aterm })),
    outputs: fresh.flatMap((node) =>
      node.outputs.map(({ name, path }) => ({ build_id: id(node), name, store_path: path })),
    ),
    sources: fresh.flatMap((node) => node.sources.map((store_path) => ({ build_id: id(node), store_path }))),
  };
}

/** Which outputs of the batch are in a store that the organization reads, and in which. Base names. */
async function presentOutputs(
  trx: Transaction<Database>,
  organizationId: string,
  nodes: readonly ParsedNode[],
): Promise<ReadonlyMap<string, string>> {
  const paths = nodes.flatMap((node) => node.outputs.flatMap(({ path }) => parseStorePathBaseName(path ?? "") ?? []));
  const present = await availablePaths(trx, organizationId, [...new Set<StorePath>(paths)]);
  return new Map(Array.from(present, ([path, cacheId]) => [path.slice("/nix/store/".length), cacheId]));
}

/**
 * What was recorded of builds that existed before. Outputs of the batch's own nodes count as the caches have them now;
 * those of other dependencies were checked by the batch of this evaluation that named them.
 */
async function readKnown(
  trx: Transaction<Database>,
  rows: readonly GraphBuild[],
  own: ReadonlySet<string>,
  present: ReadonlyMap<string, string>,
): Promise<ReadonlyMap<string, KnownBuild>> {
  const outputs = await listBuildOutputs(
    trx,
    rows.map(({ id }) => id),
  );
  const outputsOf = Map.groupBy(outputs, ({ build_id }) => build_id);
  return new Map(
    rows.map(({ id, drv_path, status, deterministic_failure }) => {
      const isLost = (path: string | null) => own.has(drv_path) && path !== null && !present.has(path);
      const available = new Map(
        (outputsOf.get(id) ?? []).map((output) => [output.name, output.available && !isLost(output.store_path)]),
      );
      return [drv_path, { status, deterministicFailure: deterministic_failure, available }];
    }),
  );
}

function newId({ clock, random }: TransitionDeps): string {
  return uuidV7(clock.now(), random);
}
