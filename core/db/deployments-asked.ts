import { type Kysely, sql } from "kysely";
import type { BuildStatus } from "../domain/states.ts";
import { attributesOf } from "./deployments-wanted.ts";
import type { Database } from "./schema.ts";

/** What an evaluation asks for, of hosts. */
export interface AskedRow {
  readonly ordinal: number;
  /** No other host can come to be named. */
  readonly is_whole: boolean;
  readonly known_at: Date;
  /** One of each host: where two attributes name it, the one that got furthest. */
  readonly builds: readonly { readonly host: string; readonly status: BuildStatus }[];
}

/** The systems of these hosts that the evaluations ask for, in whatever state their builds are. */
export async function listAskedSystems(
  db: Kysely<Database>,
  { evaluationIds, hosts }: { readonly evaluationIds: readonly string[]; readonly hosts: readonly string[] },
): Promise<AskedRow[]> {
  if (evaluationIds.length === 0) return [];
  const { rows } = await sql<AskedRow>`
    select e.ordinal, e.building_started_at is not null or e.status in (5, 6, 7) as is_whole,
      coalesce(e.building_started_at, e.created_at) as known_at, s.builds
    from unnest(${evaluationIds}::uuid[]) w (id)
    join evaluation e on e.id = w.id
    cross join lateral (
      select coalesce(jsonb_agg(jsonb_build_object('host', n.host, 'status', n.status)), '[]') as builds
      from (
        select distinct on (h.name) h.name as host, coalesce(l.outcome, b.status) as status
        from unnest(${hosts}::text[]) h (name)
        join entry_point p on p.evaluation_id = e.id and p.attribute in (${attributesOf(sql`h.name`)})
        join evaluation_build l on l.evaluation_id = e.id and l.build_id = p.build_id
        join build b on b.id = p.build_id
        order by h.name, coalesce(l.outcome, b.status) in (3, 7) desc,
          coalesce(l.outcome, b.status) in (0, 1, 2, 8) desc
      ) n
    ) s`.execute(db);
  return rows;
}
