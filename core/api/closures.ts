import type { BuildStatusName } from "./status.ts";

/** What a closure shows, the biggest first. */
export const CLOSURE_NODES_MAX = 1_000;
export const GRAPH_NODES_MAX = 500;

/**
 * `GET .../closure` (what it takes to build it) and `GET .../runtime-closure` (what it takes to run it), of a build or
 * of all entry points of an evaluation.
 */
export interface ClosureView {
  /** Ids of nodes; those that are not listed are among them. */
  readonly roots: readonly string[];
  /** Of all nodes, also of those that are not listed: the sizes of their NARs. */
  readonly total_size_bytes: number;
  readonly node_count: number;
  readonly edge_count: number;
  /** There are more nodes or edges than are listed, or than were walked. */
  readonly truncated: boolean;
  readonly nodes: readonly ClosureNode[];
  /** Between listed nodes. */
  readonly edges: readonly GraphEdgeView[];
}

export interface ClosureNode {
  /** The hash of the path: 32 characters. */
  readonly id: string;
  readonly name: string;
  /** Without the store folder: of a derivation in `closure`, of an output in `runtime-closure`. */
  readonly path: string;
  /** Bytes: of a derivation those of its outputs; 0 for what no cache holds. */
  readonly nar_size: number;
}

export interface GraphEdgeView {
  /** What needs the other one. */
  readonly source: string;
  readonly target: string;
}

/** `GET /builds/{build}/graph`: the build and what it needs, nearest first. */
export interface BuildGraphView {
  readonly root: string;
  readonly nodes: readonly BuildGraphNode[];
  readonly edges: readonly GraphEdgeView[];
  /** There is more than is shown. */
  readonly truncated: boolean;
}

export interface BuildGraphNode {
  /** A build of the same evaluation. */
  readonly id: string;
  readonly name: string;
  /** Of the derivation, without the store folder. */
  readonly path: string;
  readonly status: BuildStatusName;
  readonly build_time_ms: number | null;
  readonly created_at: string;
  readonly updated_at: string;
}

/** `GET /evals/{evaluation}/flake-graph`: the outputs of the flake as far as they were asked for, as a tree. */
export interface FlakeNodeView {
  /** The attribute path. */
  readonly path: string;
  readonly parent: string | null;
  /** The last name of the path. */
  readonly name: string;
  /** `error`: it did not evaluate. */
  readonly kind: "attrset" | "derivation" | "error";
  readonly is_derivation: boolean;
  /** Without the store folder. */
  readonly drv_path: string | null;
}
