import { type Kysely, type RawBuilder, sql } from "kysely";
import type { OpenBuild } from "../domain/scheduling/estimate.ts";
import type { Database } from "./schema.ts";

export interface OpenGraph {
  /** At most as many as were asked for. */
  readonly builds: readonly OpenBuild[];
  readonly total: number;
}

/** The open builds of an evaluation. */
export async function readOpenGraph(db: Kysely<Database>, evaluationId: string, limit: number): Promise<OpenGraph> {
  return await readGraph(
    db,
    sql`select l.build_id as id from evaluation_build l join build o on o.id = l.build_id
      where l.evaluation_id = ${evaluationId} and l.outcome is null and o.status in (0, 1, 2, 8)`,
    limit,
  );
}

/** An open build and what it still waits for, however far below. */
export async function readOpenGraphBelow(db: Kysely<Database>, buildId: string, limit: number): Promise<OpenGraph> {
  return await readGraph(
    db,
    sql`with recursive below as (
        select id from build where id = ${buildId} and status in (0, 1, 2, 8)
        union
        select e.dependency_id from below cross join lateral (
          select dependency_id from build_edge where build_id = below.id and not satisfied offset 0) e
      )
      select id from below`,
    limit,
  );
}

async function readGraph(db: Kysely<Database>, ids: RawBuilder<unknown>, limit: number): Promise<OpenGraph> {
  const { rows } = await sql<OpenBuild & { readonly total: number }>`
    with every as materialized (${ids}), shown as (select id from every limit ${limit})
    select b.id, coalesce(h.durations_ms::float8[], '{}') as "durationsMs", (select count(*)::int from every) as total,
      coalesce((
        select greatest(extract(epoch from gradient_now() - a.started_at) * 1000, 1)::float8
        from attempt a
        where a.build_id = b.id and a.finished_at is null and a.started_at is not null), 0) as "ranForMs",
      array(select e.dependency_id from build_edge e where e.build_id = b.id and not e.satisfied) as needs
    from shown join build b on b.id = shown.id
    left join build_history h on h.organization_id = b.organization_id and h.system = b.system
      and h.package_name = gradient_package_name(b.name)`.execute(db);
  return { builds: rows, total: rows[0]?.total ?? 0 };
}
