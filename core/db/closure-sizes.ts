import { type Kysely, type RawBuilder, sql } from "kysely";
import { type ClosureStores, pathOf } from "./closure-stores.ts";
import type { Database } from "./schema.ts";

/** A build that belongs to what `key` names; several may share one key. */
export interface ClosureRoot {
  readonly key: string;
  readonly build_id: string;
}

export interface BuildClosure {
  readonly key: string;
  /** Builds that the roots need, directly or not, themselves left out. */
  readonly dependencies: number;
  /** Of the outputs of all of them as NARs, in bytes, as far as they are stored; null where none is. */
  readonly bytes: number | null;
}

export interface RuntimeClosure {
  readonly key: string;
  /** Of the roots' own outputs. */
  readonly output_bytes: number | null;
  /** Of these and all that they refer to, directly or not. */
  readonly bytes: number | null;
}

/** What it took to build the roots. Null when all closures together have more than `membersMax` members. */
export async function sumBuildClosures(
  db: Kysely<Database>,
  stores: ClosureStores,
  { roots, membersMax }: { readonly roots: readonly ClosureRoot[]; readonly membersMax: number },
): Promise<BuildClosure[] | null> {
  if (roots.length === 0) return [];
  // A recursive query whose only reader has a limit stops when the limit is reached.
  const { rows } = await sql<BuildClosure & { readonly walked: number }>`
    with recursive root as materialized (${rootRows(roots)}),
    closure (key, build_id) as (
      select key, build_id from root
      union
      select closure.key, build_edge.dependency_id
      from closure join build_edge on build_edge.build_id = closure.build_id
    ),
    walked as materialized (select key, build_id from closure limit ${membersMax + 1}),
    size as materialized (
      select b.build_id, (
        select sum(${narSize(sql`o.store_path`, stores)}) from build_output o where o.build_id = b.build_id) as bytes
      from (select distinct build_id from walked) b
    )
    select w.key, sum(size.bytes)::float8 as bytes, (select count(*)::int from walked) as walked,
      (count(*) filter (where not exists (
        select from root where root.key = w.key and root.build_id = w.build_id)))::int as dependencies
    from walked w join size on size.build_id = w.build_id
    group by w.key`.execute(db);
  return (rows[0]?.walked ?? 0) > membersMax ? null : rows;
}

/** What it takes to use the roots. Null when all closures together have more than `membersMax` members. */
export async function sumRuntimeClosures(
  db: Kysely<Database>,
  stores: ClosureStores,
  { roots, membersMax }: { readonly roots: readonly ClosureRoot[]; readonly membersMax: number },
): Promise<RuntimeClosure[] | null> {
  if (roots.length === 0) return [];
  const { rows } = await sql<RuntimeClosure & { readonly walked: number }>`
    with recursive root as materialized (
      select distinct r.key, o.store_path as path from (${rootRows(roots)}) r
      join build_output o on o.build_id = r.build_id and o.store_path is not null
    ),
    closure (key, path) as (
      select key, path from root
      union
      select closure.key, reference.path from closure cross join lateral (
        select unnest(stored."references") as path
        from (${pathOf(sql`left(closure.path, 32)`, stores)}) stored) reference
    ),
    walked as materialized (select key, path from closure limit ${membersMax + 1}),
    size as materialized (
      select member.path, ${narSize(sql`member.path`, stores)} as bytes from (select distinct path from walked) member
    )
    select w.key, sum(size.bytes)::float8 as bytes, (select count(*)::int from walked) as walked,
      (sum(size.bytes) filter (where exists (
        select from root where root.key = w.key and root.path = w.path)))::float8 as output_bytes
    from walked w join size on size.path = w.path
    group by w.key`.execute(db);
  return (rows[0]?.walked ?? 0) > membersMax ? null : rows;
}

function rootRows(roots: readonly ClosureRoot[]): RawBuilder<unknown> {
  const rows = JSON.stringify(roots);
  return sql`select key, build_id from jsonb_to_recordset(${rows}::jsonb) as r(key uuid, build_id uuid)`;
}

/** Null where nobody knows the path. */
function narSize(path: RawBuilder<unknown>, stores: ClosureStores): RawBuilder<number | null> {
  return sql`(select found.nar_size from (${pathOf(sql`left(${path}, 32)`, stores)}) found)`;
}
