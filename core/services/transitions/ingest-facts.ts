import type { Transaction } from "kysely";
import { type GraphBuild, listBuildOutputs } from "../../db/graph.ts";
import type { Database } from "../../db/schema.ts";
import {
  decideIngest,
  findBatchFault,
  findLostOutput,
  type IngestDecision,
  type IngestNode,
  type KnownBuild,
} from "../../domain/ingest.ts";
import { DomainError } from "../../errors.ts";
import { parseStorePathBaseName, type StorePath } from "../../nix/store-path.ts";
import { heldPaths, provenUpstreamPaths } from "../paths-availability.ts";
import type { ParsedNode } from "./parse-nodes.ts";

/**
 * Decides the batch. Throws `conflict` for what may be otherwise once the evaluation is done again, and `validation`
 * for what no repetition makes right.
 */
export function decideBatch(
  nodes: readonly ParsedNode[],
  known: ReadonlyMap<string, KnownBuild>,
  present: ReadonlyMap<string, string>,
): readonly IngestDecision[] {
  const facts: readonly IngestNode[] = nodes.map((node) => ({
    ...node,
    outputs: node.outputs.map(({ name }) => name),
    present: new Set(node.outputs.filter(({ path }) => path && present.has(path)).map(({ name }) => name)),
  }));
  const absent = facts.find((node) => node.pruned && node.present.size === 0);
  if (absent) throw new DomainError("conflict", `${absent.drvPath} is no longer available`);
  const fault = findBatchFault(facts, known);
  if (fault !== null) throw new DomainError("validation", fault);
  const decisions = decideIngest(facts, known);
  const lost = findLostOutput(facts, decisions, known);
  if (lost !== null) throw new DomainError("conflict", lost);
  return decisions;
}

/**
 * Which outputs of the batch are in a store that the organization reads, and in which. Those of pruned nodes may be in
 * an upstream of it instead, as it was recorded when the worker was told. Base names.
 */
export async function presentOutputs(
  trx: Transaction<Database>,
  organizationId: string,
  nodes: readonly ParsedNode[],
): Promise<ReadonlyMap<string, string>> {
  const present = await heldPaths(trx, organizationId, outputPaths(nodes));
  const others = outputPaths(nodes.filter(({ pruned }) => pruned)).filter((path) => !present.has(path));
  const upstream = others.length > 0 ? await provenUpstreamPaths(trx, organizationId, others) : [];
  const all = [...present, ...upstream];
  return new Map(all.map(([path, cacheId]) => [path.slice("/nix/store/".length), cacheId]));
}

function outputPaths(nodes: readonly ParsedNode[]): StorePath[] {
  const paths = nodes.flatMap((node) => node.outputs.flatMap(({ path }) => parseStorePathBaseName(path ?? "") ?? []));
  return [...new Set(paths)];
}

/**
 * What was recorded of builds that existed before. Outputs of the batch's own nodes count as the caches have them now;
 * those of other dependencies were checked by the batch of this evaluation that named them.
 */
export async function readKnown(
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
