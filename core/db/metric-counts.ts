import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** Rows that are folded in one transaction. */
const FOLD_MAX = 50_000;

/** Adds to counts, by their names. */
export async function addMetricCounts(
  db: Kysely<Database>,
  counts: readonly { readonly name: string; readonly value: number }[],
): Promise<void> {
  if (counts.length > 0) await db.insertInto("metric_count").values(counts).execute();
}

/** Every count since the beginning. */
export async function loadMetricCounts(db: Kysely<Database>): Promise<Map<string, number>> {
  const { rows } = await sql<{ name: string; value: number }>`
    select name, sum(value)::float8 as value from metric_count group by name`.execute(db);
  return new Map(rows.map(({ name, value }) => [name, value]));
}

/** Makes one row of the oldest rows of each name; nobody waits for it. Answers whether there may be more of them. */
export async function foldMetricCounts(trx: Transaction<Database>): Promise<boolean> {
  const { rows } = await sql<{ rows: number }>`
    with folded as (
      delete from metric_count where id in (
        select id from metric_count order by id limit ${FOLD_MAX} for update skip locked)
      returning name, value
    ), kept as (
      insert into metric_count (name, value)
      select name, least(sum(value), ${Number.MAX_SAFE_INTEGER}) from folded group by name
    )
    select count(*)::int as rows from folded`.execute(trx);
  return rows[0]?.rows === FOLD_MAX;
}
