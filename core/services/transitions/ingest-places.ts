import type { Transaction } from "kysely";
import { listReadableStores } from "../../db/cache-paths.ts";
import { type GraphBuild, listBuildOutputs } from "../../db/graph.ts";
import { listRealisations, type StoredRealisation } from "../../db/realisations.ts";
import { type OutputPlace, Resolution } from "../../db/resolutions.ts";
import type { Database } from "../../db/schema.ts";
import { formatRealisationId } from "../../nix/realisation.ts";
import { parseStorePathBaseName, storePathBaseName } from "../../nix/store-path.ts";
import { heldPaths } from "../paths-availability.ts";
import type { ParsedNode } from "./parse-nodes.ts";

/** A batch's nodes with the places of outputs whose derivations do not state them, as far as they are known. */
export interface PlacedNodes {
  readonly nodes: readonly ParsedNode[];
  /** What is to be recorded of builds that were there. */
  readonly places: readonly OutputPlace[];
}

/**
 * Looks up where outputs are that have no paths of their own: where their builds left them when that is still there,
 * or where a cache that the organization reads says that it has them.
 */
export async function placeOutputs(
  trx: Transaction<Database>,
  organizationId: string,
  nodes: readonly ParsedNode[],
  rows: ReadonlyMap<string, GraphBuild>,
): Promise<PlacedNodes> {
  const open = nodes.filter((node) => node.outputs.some(({ path }) => path === null));
  if (open.length === 0) return { nodes, places: [] };
  const own = await ownPlaces(trx, organizationId, open, rows);
  const told = await toldPlaces(trx, organizationId, open);
  const placed = new Map<string, ParsedNode>();
  const places: OutputPlace[] = [];
  for (const node of open) {
    const build = rows.get(node.drvPath);
    const outputs = node.outputs.map(({ name, path }) => {
      const before = build && own.get(`${build.id} ${name}`);
      const place = before?.present ? before.path : (told.get(idOf(node, name)) ?? before?.path ?? path);
      if (build && place !== null && place !== before?.path)
        places.push({ build_id: build.id, name, store_path: place });
      return { name, path: place };
    });
    placed.set(node.drvPath, { ...node, outputs });
  }
  return { nodes: nodes.map((node) => placed.get(node.drvPath) ?? node), places };
}

/** By build and output. */
async function ownPlaces(
  trx: Transaction<Database>,
  organizationId: string,
  nodes: readonly ParsedNode[],
  rows: ReadonlyMap<string, GraphBuild>,
): Promise<ReadonlyMap<string, { readonly path: string; readonly present: boolean }>> {
  const outputs = await listBuildOutputs(
    trx,
    nodes.flatMap(({ drvPath }) => rows.get(drvPath)?.id ?? []),
  );
  const known = outputs.flatMap(({ build_id, name, store_path }) =>
    store_path === null ? [] : [{ key: `${build_id} ${name}`, path: store_path }],
  );
  const paths = known.flatMap(({ path }) => parseStorePathBaseName(path) ?? []);
  const found = await heldPaths(trx, organizationId, paths);
  const present = new Set(Array.from(found.keys(), storePathBaseName));
  return new Map(known.map(({ key, path }) => [key, { path, present: present.has(path) }]));
}

/** By realisation. */
async function toldPlaces(
  trx: Transaction<Database>,
  organizationId: string,
  nodes: readonly ParsedNode[],
): Promise<ReadonlyMap<string, string>> {
  const keys = nodes.flatMap(({ realisationHash: hash, outputs }) =>
    hash === null ? [] : outputs.map(({ name: output }) => ({ hash, output })),
  );
  const stores = keys.length > 0 ? await listReadableStores(trx, organizationId) : [];
  const cacheIds = stores.map(({ id }) => id);
  return firstPlaces(await listRealisations(trx, { cacheIds, keys }), cacheIds);
}

/** By realisation: what the most preferred cache says. */
export function firstPlaces(
  found: readonly StoredRealisation[],
  cacheIds: readonly string[],
): ReadonlyMap<string, string> {
  const places = new Map<string, string>();
  const ordered = [...found].sort((a, b) => cacheIds.indexOf(a.cache_id) - cacheIds.indexOf(b.cache_id));
  for (const row of ordered) {
    const id = formatRealisationId(row);
    if (!places.has(id)) places.set(id, row.store_path);
  }
  return places;
}

function idOf({ realisationHash }: ParsedNode, output: string): string {
  return realisationHash === null ? "" : formatRealisationId({ hash: realisationHash, output });
}

/**
 * Which nodes have to be resolved before they are built, in their order: those without paths of their own, and fixed
 * outputs that need such or are made from what does.
 */
export function resolutionsOf(
  nodes: readonly ParsedNode[],
  rows: ReadonlyMap<string, GraphBuild>,
): ReadonlyMap<string, Resolution> {
  const found = new Map<string, Resolution>();
  const isResolved = (drvPath: string) => (found.get(drvPath) ?? rows.get(drvPath)?.resolution ?? 0) !== 0;
  for (const { drvPath, addressing, dependencies, pruned, unsupported } of nodes) {
    const wanted =
      addressing === "floating" ||
      addressing === "deferred" ||
      (addressing === "fixed" && !pruned && dependencies.some((dependency) => isResolved(dependency.drvPath)));
    found.set(drvPath, wanted && unsupported === null ? Resolution.wanted : Resolution.none);
  }
  return found;
}
