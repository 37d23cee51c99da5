import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

/** How much there is of what is under way, and of what is stored. */
export interface InstanceFigures {
  /** By the number of the state; a state that nothing is in is absent. */
  readonly openBuilds: ReadonlyMap<number, number>;
  readonly openEvaluations: ReadonlyMap<number, number>;
  readonly workersConnected: number;
  readonly jobsActive: number;
  readonly cacheBytes: number;
  readonly cacheNarBytes: number;
  readonly cachePaths: number;
}

/** Costs as much as there is to do, not as much as there ever was: each part has a partial index of its own. */
export async function loadInstanceFigures(db: Kysely<Database>): Promise<InstanceFigures> {
  const { rows: open } = await sql<{ kind: "build" | "evaluation"; status: number; count: number }>`
    select 'build' as kind, 0 as status, count(*)::float8 as count from build where status = 0
    union all select 'build', 1, count(*) from build where status = 1
    union all select 'build', 2, count(*) from attempt where finished_at is null and build_id is not null
    union all select 'build', 8, count(*) from build where status = 8
    union all select 'evaluation', status, count(*) from evaluation
      where status in (0, 1, 2, 3, 4, 8) group by status`.execute(db);
  const { rows } = await sql<{ workers: number; jobs: number; bytes: number; nar_bytes: number; paths: number }>`
    select
      (select count(distinct worker_id)::float8 from worker_connection where disconnected_at is null
        and last_seen_at > gradient_now() - ${SILENCE_MS_MAX} * interval '1 millisecond') as workers,
      (select count(*)::float8 from attempt where finished_at is null) as jobs,
      coalesce(sum(bytes), 0)::float8 as bytes, coalesce(sum(nar_bytes), 0)::float8 as nar_bytes,
      coalesce(sum(paths), 0)::float8 as paths
    from cache_usage`.execute(db);
  const [all] = rows;
  const of = (kind: string) => new Map(open.filter((row) => row.kind === kind).map((row) => [row.status, row.count]));
  return {
    openBuilds: of("build"),
    openEvaluations: of("evaluation"),
    workersConnected: all?.workers ?? 0,
    jobsActive: all?.jobs ?? 0,
    cacheBytes: all?.bytes ?? 0,
    cacheNarBytes: all?.nar_bytes ?? 0,
    cachePaths: all?.paths ?? 0,
  };
}
