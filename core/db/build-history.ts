import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** Of one package on one system. */
const DURATIONS_KEPT = 16;
const KEPT_DAYS = 180;

/**
 * Takes builds that ended since the last time into the history of their packages: the newest `limit` of them, at most.
 * What ended less than `lagMs` ago is left for the next time: its transaction may not be committed yet. Nothing happens
 * while another server does the same.
 */
export async function recordHistory(
  trx: Transaction<Database>,
  { lagMs, limit }: { readonly lagMs: number; readonly limit: number },
): Promise<void> {
  const { rows } = await sql<{ from: Date; until: Date }>`
    select history_until as from, gradient_now() - ${lagMs} * interval '1 millisecond' as until
    from scheduler_state for no key update skip locked`.execute(trx);
  const span = rows[0];
  if (!span || span.until <= span.from) return;
  await sql`
    insert into build_history (organization_id, system, package_name, durations_ms, peak_memory_mb)
    select b.organization_id, b.system, gradient_package_name(b.name),
      (array_agg(a.ms order by a.finished_at))[greatest(count(*)::int - ${sql.lit(DURATIONS_KEPT - 1)}, 1):],
      (array_agg(a.peak_memory_bytes order by a.finished_at desc) filter (where a.peak_memory_bytes is not null))[1]
        / 1048576
    from (
      select build_id, finished_at, peak_memory_bytes, greatest(coalesce(build_ms,
        extract(epoch from finished_at - coalesce(started_at, assigned_at)) * 1000), 0)::bigint as ms
      from attempt
      where kind = 1 and outcome = 1 and finished_at > ${span.from} and finished_at <= ${span.until}
      order by finished_at desc limit ${limit}) a
    join build b on b.id = a.build_id
    group by b.organization_id, b.system, gradient_package_name(b.name)
    order by 1, 2, 3
    on conflict (organization_id, system, package_name) do update set
      durations_ms = (build_history.durations_ms || excluded.durations_ms)[greatest(1 - ${sql.lit(DURATIONS_KEPT)}
        + cardinality(build_history.durations_ms) + cardinality(excluded.durations_ms), 1):],
      peak_memory_mb = coalesce(excluded.peak_memory_mb, build_history.peak_memory_mb),
      updated_at = gradient_now()`.execute(trx);
  await sql`update scheduler_state set history_until = ${span.until}`.execute(trx);
}

/** Packages that nobody has built for half a year. */
export async function forgetOldHistory(db: Kysely<Database>): Promise<void> {
  await sql`
    delete from build_history where updated_at < gradient_now() - ${KEPT_DAYS} * interval '1 day'`.execute(db);
}
