import { type Kysely, sql } from "kysely";
import type { AttributeSide } from "../domain/comparison.ts";
import { type ClosureStores, pathOf } from "./closure-stores.ts";
import type { Database, EvaluationRow } from "./schema.ts";
import type { InputOverride } from "./tables/flake-inputs.ts";
import type { LockedInput } from "./tables/verdict.ts";

export type ComparedEvaluationRow = Pick<
  EvaluationRow,
  "id" | "organization_id" | "project_id" | "commit_hash" | "status" | "created_at"
> & { readonly locked_inputs: readonly LockedInput[] | null; readonly input_overrides: readonly InputOverride[] };

export async function findComparedEvaluation(
  db: Kysely<Database>,
  id: string,
): Promise<ComparedEvaluationRow | undefined> {
  return await db
    .selectFrom("evaluation")
    .select(["id", "organization_id", "project_id", "commit_hash", "status", "created_at"])
    .select(["locked_inputs", "input_overrides"])
    .where("id", "=", id)
    .executeTakeFirst();
}

interface SideRow {
  readonly attribute: string[];
  readonly link_id: string | null;
  readonly build_id: string;
  readonly drv_path: string;
  readonly name: string;
  readonly status: number;
}

/** Every attribute that was asked for: built, or not evaluated. */
export async function listAttributeSides(
  db: Kysely<Database>,
  evaluationId: string,
  limit: number,
): Promise<AttributeSide[]> {
  const { rows } = await sql<SideRow>`
    (select p.attribute, l.id as link_id, b.id as build_id, b.drv_path, b.name,
      greatest(coalesce(l.outcome, b.status), 1) as status
    from entry_point p
    join evaluation_build l on l.evaluation_id = p.evaluation_id and l.build_id = p.build_id
    join build b on b.id = p.build_id
    where p.evaluation_id = ${evaluationId} order by p.attribute limit ${limit})
    union all
    (select distinct attribute, null::uuid, null::uuid, null, null, null::integer
    from evaluation_message
    where evaluation_id = ${evaluationId} and level = 0 and attribute is not null
    order by attribute limit ${limit})`.execute(db);
  return rows.map(({ attribute, link_id, ...build }) => ({
    attribute,
    build: link_id === null ? null : { link_id, ...build },
  }));
}

/** Everything that these store paths refer to, directly or not, with its size; more than `limit` are not walked. */
export async function listRuntimePaths(
  db: Kysely<Database>,
  stores: ClosureStores,
  { roots, limit }: { readonly roots: readonly string[]; readonly limit: number },
): Promise<{ readonly path: string; readonly nar_size: number }[]> {
  if (roots.length === 0) return [];
  const { rows } = await sql<{ path: string; nar_size: number }>`
    with recursive closure (path) as (
      select distinct path from unnest(${roots}::text[]) as root (path)
      union
      select r.path from closure c cross join lateral (${pathOf(sql`left(c.path, 32)`, stores)}) k
      cross join lateral unnest(k."references") as r (path)
    ),
    walked as materialized (select path from closure limit ${limit})
    select w.path, coalesce(k.nar_size, 0) as nar_size
    from walked w left join lateral (${pathOf(sql`left(w.path, 32)`, stores)}) k on true`.execute(db);
  return rows;
}

/**
 * What each of the roots takes to run, in bytes. Null: together they have more members than `membersMax`, and are not
 * walked to their ends.
 */
export async function sumRuntimeClosures(
  db: Kysely<Database>,
  stores: ClosureStores,
  { roots, membersMax }: { readonly roots: readonly RootPath[]; readonly membersMax: number },
): Promise<ReadonlyMap<string, number> | null> {
  if (roots.length === 0) return new Map();
  const { rows } = await sql<{ key: string; bytes: number; members: number }>`
    with recursive closure (key, path) as (
      select key, path from unnest(${roots.map(({ key }) => key)}::uuid[], ${roots.map(({ path }) => path)}::text[])
        as root (key, path)
      union
      select c.key, r.path from closure c cross join lateral (${pathOf(sql`left(c.path, 32)`, stores)}) k
      cross join lateral unnest(k."references") as r (path)
    ),
    walked as materialized (select key, path from closure limit ${membersMax + 1})
    select w.key, coalesce(sum(k.nar_size), 0)::bigint as bytes, (select count(*)::int from walked) as members
    from walked w left join lateral (${pathOf(sql`left(w.path, 32)`, stores)}) k on true
    group by w.key`.execute(db);
  if ((rows[0]?.members ?? 0) > membersMax) return null;
  return new Map(rows.map(({ key, bytes }) => [key, bytes]));
}

export interface RootPath {
  /** A build's id; one with several outputs has several roots. */
  readonly key: string;
  readonly path: string;
}
