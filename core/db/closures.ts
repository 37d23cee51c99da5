import { type Kysely, sql } from "kysely";
import { type ClosureStores, pathOf } from "./closure-stores.ts";
import type { Database } from "./schema.ts";

export interface ClosureRow {
  /** The path's hash. */
  readonly id: string;
  readonly path: string;
  readonly nar_size: number;
}

export interface ClosureRows {
  readonly nodes: readonly ClosureRow[];
  readonly nodeCount: number;
  readonly edgeCount: number;
  readonly totalBytes: number;
  /** More was reached than `walkMax`: the counts are of what was walked. */
  readonly cut: boolean;
}

export interface ClosureLimits {
  readonly walkMax: number;
  readonly nodesMax: number;
}

interface SummedRow {
  readonly id: string | null;
  readonly path: string;
  readonly nar_size: number;
  readonly nodes: number;
  readonly edges: number;
  readonly bytes: number;
}

/** Of the rows of `sized`, which each query has. */
const totals = sql`
  select count(*)::int as nodes, coalesce(sum(edges), 0)::int as edges, coalesce(sum(nar_size), 0)::bigint as bytes
  from sized`;

/** Everything that these store paths refer to, directly or not, the biggest first. */
export async function walkRuntimeClosure(
  db: Kysely<Database>,
  stores: ClosureStores,
  roots: readonly string[],
  { walkMax, nodesMax }: ClosureLimits,
): Promise<ClosureRows> {
  const { rows } = await sql<SummedRow>`
    with recursive closure (path) as (
      select distinct path from unnest(${roots}::text[]) as root (path)
      union
      select r.path from closure c cross join lateral (${pathOf(sql`left(c.path, 32)`, stores)}) k
      cross join lateral unnest(k."references") as r (path)
    ),
    walked as materialized (select path from closure limit ${walkMax + 1}),
    sized as materialized (
      select w.path, coalesce(k.nar_size, 0) as nar_size,
        cardinality(array_remove(coalesce(k."references", '{}'), w.path)) as edges
      from walked w left join lateral (${pathOf(sql`left(w.path, 32)`, stores)}) k on true)
    select left(s.path, 32) as id, s.path, s.nar_size, t.nodes, t.edges, t.bytes
    from (${totals}) t
    left join (select * from sized order by nar_size desc, path limit ${nodesMax}) s on true
    order by s.nar_size desc, s.path`.execute(db);
  return summed(rows, walkMax);
}

/** Edges between these paths of a runtime closure; a path's reference to itself is none. */
export async function listReferenceEdges(
  db: Kysely<Database>,
  stores: ClosureStores,
  paths: readonly string[],
  limit: number,
): Promise<{ readonly source: string; readonly target: string }[]> {
  const { rows } = await sql<{ source: string; target: string }>`
    with shown as materialized (select path from unnest(${paths}::text[]) as shown (path))
    select left(s.path, 32) as source, left(t.path, 32) as target
    from shown s cross join lateral (${pathOf(sql`left(s.path, 32)`, stores)}) k
    cross join lateral unnest(k."references") as r (path) join shown t on t.path = r.path
    where r.path <> s.path
    order by s.path, t.path limit ${limit}`.execute(db);
  return rows;
}

/** These builds and everything that it takes to build them, those with the biggest outputs first. */
export async function walkBuildClosure(
  db: Kysely<Database>,
  stores: ClosureStores,
  buildIds: readonly string[],
  { walkMax, nodesMax }: ClosureLimits,
): Promise<ClosureRows & { readonly buildIds: readonly string[] }> {
  const { rows } = await sql<SummedRow & { readonly build_id: string }>`
    with recursive closure (id) as (
      select distinct id from unnest(${buildIds}::uuid[]) as root (id)
      union
      select e.dependency_id from closure c cross join lateral (
        select dependency_id from build_edge where build_id = c.id offset 0) e
    ),
    walked as materialized (select id from closure limit ${walkMax + 1}),
    sized as materialized (
      select w.id, b.drv_path as path, o.nar_size, d.edges
      from walked w join build b on b.id = w.id
      cross join lateral (
        select coalesce(sum(k.nar_size), 0)::bigint as nar_size
        from build_output o cross join lateral (${pathOf(sql`left(o.store_path, 32)`, stores)}) k
        where o.build_id = w.id and o.store_path is not null) o
      cross join lateral (select count(*)::int as edges from build_edge where build_id = w.id) d)
    select left(s.path, 32) as id, s.path, s.nar_size, s.id as build_id, t.nodes, t.edges, t.bytes
    from (${totals}) t
    left join (select * from sized order by nar_size desc, path limit ${nodesMax}) s on true
    order by s.nar_size desc, s.path`.execute(db);
  const shown = rows.filter(({ id }) => id !== null);
  return { ...summed(rows, walkMax), buildIds: shown.map(({ build_id }) => build_id) };
}

/** Edges between these builds, as hashes of their derivations' paths. */
export async function listBuildEdges(
  db: Kysely<Database>,
  buildIds: readonly string[],
  limit: number,
): Promise<{ readonly source: string; readonly target: string }[]> {
  const { rows } = await sql<{ source: string; target: string }>`
    with shown as materialized (
      select id, left(drv_path, 32) as hash from build where id = any(${buildIds}::uuid[]))
    select s.hash as source, t.hash as target
    from shown s join build_edge e on e.build_id = s.id join shown t on t.id = e.dependency_id
    order by s.hash, t.hash limit ${limit}`.execute(db);
  return rows;
}

/** The outputs of these builds that have a path. */
export async function listOutputPaths(
  db: Kysely<Database>,
  buildIds: readonly string[],
): Promise<{ readonly build_id: string; readonly store_path: string }[]> {
  if (buildIds.length === 0) return [];
  const { rows } = await sql<{ build_id: string; store_path: string }>`
    select build_id, store_path from build_output
    where build_id = any(${buildIds}::uuid[]) and store_path is not null order by build_id, name`.execute(db);
  return rows;
}

function summed(rows: readonly SummedRow[], walkMax: number): ClosureRows {
  const [first] = rows;
  return {
    nodes: rows.flatMap(({ id, path, nar_size }) => (id === null ? [] : [{ id, path, nar_size }])),
    nodeCount: first?.nodes ?? 0,
    edgeCount: first?.edges ?? 0,
    totalBytes: first?.bytes ?? 0,
    cut: (first?.nodes ?? 0) > walkMax,
  };
}
