import { CLOSURE_NODES_MAX, type ClosureView } from "../api/closures.ts";
import { findClosureStores } from "../db/closure-stores.ts";
import {
  type ClosureRows,
  listBuildEdges,
  listOutputPaths,
  listReferenceEdges,
  walkBuildClosure,
  walkRuntimeClosure,
} from "../db/closures.ts";
import { listEntryPoints } from "../db/evaluations-read-entry-points.ts";
import type { Actor } from "../domain/actor.ts";
import { requireBuild } from "./builds.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { ENTRY_POINTS_MAX } from "./projects-evaluations.ts";
import { asWalk } from "./walks.ts";

export type ClosureKind = "build" | "runtime";

type ReadDeps = Pick<ServiceDeps, "db">;

/** PostgreSQL walks as many in about a second. */
const WALK_MAX = 50_000;
const EDGES_MAX = 10_000;
const LIMITS = { walkMax: WALK_MAX, nodesMax: CLOSURE_NODES_MAX };

/** Of a build: what it takes to build it, or to run what it makes. */
export async function getBuildClosure(
  deps: ReadDeps,
  actor: Actor,
  id: string,
  kind: ClosureKind,
): Promise<ClosureView> {
  const { organization_id, build_id, drv_path } = await requireBuild(deps, actor, id);
  return await asWalk(actor, () => closureOf(deps, organization_id, [{ build_id, drv_path }], kind));
}

/** The same for all entry points of an evaluation together. */
export async function getEvaluationClosure(
  deps: ReadDeps,
  actor: Actor,
  id: string,
  kind: ClosureKind,
): Promise<ClosureView> {
  const { organization_id } = await requireEvaluation(deps, actor, id, "read");
  const roots = await listEntryPoints(deps.db, id, ENTRY_POINTS_MAX);
  return await asWalk(actor, () => closureOf(deps, organization_id, roots, kind));
}

interface RootBuild {
  readonly build_id: string;
  readonly drv_path: string;
}

async function closureOf(
  { db }: ReadDeps,
  organizationId: string,
  roots: readonly RootBuild[],
  kind: ClosureKind,
): Promise<ClosureView> {
  const stores = await findClosureStores(db, organizationId);
  const buildIds = [...new Set(roots.map(({ build_id }) => build_id))];
  if (kind === "build") {
    const { buildIds: shown, ...closure } = await walkBuildClosure(db, stores, buildIds, LIMITS);
    const edges = await listBuildEdges(db, shown, EDGES_MAX + 1);
    return viewClosure(closure, edges, [...new Set(roots.map(({ drv_path }) => hashOf(drv_path)))]);
  }
  const outputs = [...new Set((await listOutputPaths(db, buildIds)).map(({ store_path }) => store_path))];
  const closure = await walkRuntimeClosure(db, stores, outputs, LIMITS);
  const shown = closure.nodes.map(({ path }) => path);
  return viewClosure(closure, await listReferenceEdges(db, stores, shown, EDGES_MAX + 1), outputs.map(hashOf));
}

function viewClosure(
  { nodes, nodeCount, edgeCount, totalBytes, cut }: ClosureRows,
  edges: ClosureView["edges"],
  roots: readonly string[],
): ClosureView {
  return {
    roots,
    total_size_bytes: totalBytes,
    node_count: nodeCount,
    edge_count: edgeCount,
    truncated: cut || nodeCount > nodes.length || edges.length > EDGES_MAX,
    nodes: nodes.map(({ id, path, nar_size }) => ({ id, name: nameOf(path), path, nar_size })),
    edges: edges.slice(0, EDGES_MAX),
  };
}

/** `hash-name`: a hash has 32 characters. */
function hashOf(path: string): string {
  return path.slice(0, 32);
}

function nameOf(path: string): string {
  return path.slice(33).replace(/\.drv$/, "");
}
