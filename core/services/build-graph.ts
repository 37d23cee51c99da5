import { type BuildGraphView, type FlakeNodeView, GRAPH_NODES_MAX } from "../api/closures.ts";
import { naiveTime } from "../api/times.ts";
import { listGraphEdges, listGraphNodes } from "../db/build-graph.ts";
import { listEntryPoints } from "../db/evaluations-read-entry-points.ts";
import { listEvaluationErrors } from "../db/verdict-facts.ts";
import type { Actor } from "../domain/actor.ts";
import { flakeTree } from "../domain/flake-tree.ts";
import { buildStatusName } from "../domain/states.ts";
import { requireBuild } from "./builds.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEvaluation } from "./evaluations.ts";
import { ENTRY_POINTS_MAX } from "./projects-evaluations.ts";

type ReadDeps = Pick<ServiceDeps, "db">;

const EDGES_MAX = 10_000;
const ERRORS_MAX = 1_000;

/** The build and what it needs, as builds of its evaluation, nearest first. */
export async function getBuildGraph(deps: ReadDeps, actor: Actor, id: string): Promise<BuildGraphView> {
  const link = await requireBuild(deps, actor, id);
  const found = await listGraphNodes(deps.db, link, GRAPH_NODES_MAX + 1);
  const nodes = found.slice(0, GRAPH_NODES_MAX);
  const edges = await listGraphEdges(deps.db, nodes, EDGES_MAX + 1);
  return {
    root: link.id,
    nodes: nodes.map(({ id, name, drv_path, status, build_time_ms, created_at, updated_at }) => ({
      id,
      name,
      path: drv_path,
      status: buildStatusName(status),
      build_time_ms,
      created_at: naiveTime(created_at),
      updated_at: naiveTime(updated_at),
    })),
    edges: edges.slice(0, EDGES_MAX),
    truncated: found.length > GRAPH_NODES_MAX || edges.length > EDGES_MAX,
  };
}

/** What was asked for of the flake's outputs, as a tree; parents come before their children. */
export async function getFlakeGraph(deps: ReadDeps, actor: Actor, evaluationId: string): Promise<FlakeNodeView[]> {
  await requireEvaluation(deps, actor, evaluationId, "read");
  const found = await listEntryPoints(deps.db, evaluationId, ENTRY_POINTS_MAX);
  const errors = await listEvaluationErrors(deps.db, evaluationId, { limit: ERRORS_MAX, messageLengthMax: 0 });
  return flakeTree(
    found.map(({ attribute, drv_path }) => ({ attribute, derivation: drv_path })),
    errors.flatMap(({ attribute }) => (attribute ? [attribute] : [])),
  );
}
