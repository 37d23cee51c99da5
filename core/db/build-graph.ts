import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

export interface GraphNodeRow {
  readonly id: string;
  readonly build_id: string;
  readonly name: string;
  readonly drv_path: string;
  readonly status: number;
  readonly build_time_ms: number | null;
  readonly created_at: Date;
  readonly updated_at: Date;
}

/** A build and what it needs of the builds of its evaluation, nearest first; at most `limit`. */
export async function listGraphNodes(
  db: Kysely<Database>,
  { evaluation_id, build_id }: { readonly evaluation_id: string; readonly build_id: string },
  limit: number,
): Promise<GraphNodeRow[]> {
  // One level after the other: a recursive query whose only reader has a limit stops when the limit is reached.
  const { rows } = await sql<GraphNodeRow>`
    with recursive closure (link_id, id) as (
      select id, build_id from evaluation_build where evaluation_id = ${evaluation_id} and build_id = ${build_id}
      union
      select l.id, l.build_id from closure c cross join lateral (
        select dependency_id from build_edge where build_id = c.id offset 0) e
      cross join lateral (
        select id, build_id from evaluation_build
        where evaluation_id = ${evaluation_id} and build_id = e.dependency_id offset 0) l
    ),
    walked as materialized (select link_id, id from closure limit ${limit}),
    numbered as materialized (select link_id, id, row_number() over () as place from walked)
    select l.id, l.build_id, b.name, b.drv_path, greatest(coalesce(l.outcome, b.status), 1) as status, l.created_at,
      greatest((extract(epoch from a.finished_at - coalesce(a.started_at, a.assigned_at)) * 1000)::bigint,
        case when a.finished_at is not null then 0 end) as build_time_ms,
      case when l.outcome is null then b.updated_at else least(b.updated_at, e.finished_at) end as updated_at
    from numbered n
    join evaluation_build l on l.id = n.link_id
    join build b on b.id = n.id
    join evaluation e on e.id = l.evaluation_id
    left join attempt a on a.id = case
      when l.attempt_id is not null or l.outcome is not null then l.attempt_id
      else (select s.id from attempt s where s.build_id = b.id order by s.assigned_at desc, s.id desc limit 1) end
    order by n.place`.execute(db);
  return rows;
}

/** Edges between builds that are shown, as builds of the evaluation. */
export async function listGraphEdges(
  db: Kysely<Database>,
  nodes: readonly Pick<GraphNodeRow, "id" | "build_id">[],
  limit: number,
): Promise<{ readonly source: string; readonly target: string }[]> {
  const { rows } = await sql<{ source: string; target: string }>`
    with shown as materialized (
      select * from unnest(${nodes.map(({ id }) => id)}::uuid[], ${nodes.map((node) => node.build_id)}::uuid[])
        as shown (link_id, id))
    select s.link_id as source, t.link_id as target
    from shown s join build_edge e on e.build_id = s.id join shown t on t.id = e.dependency_id
    order by s.link_id, t.link_id limit ${limit}`.execute(db);
  return rows;
}
