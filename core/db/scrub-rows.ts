import { type Kysely, sql } from "kysely";
import type { Database, NarRow } from "./schema.ts";
import { databaseNow } from "./time.ts";

/** Sound NARs whose objects lie within these keys, `after` excluded, in the order in which stores list. */
export async function listNarsByKey(
  db: Kysely<Database>,
  { after, upTo, limit }: { readonly after: string; readonly upTo: string | null; readonly limit: number },
): Promise<NarRow[]> {
  const result = await sql<NarRow>`
    select * from nar
    where damaged_at is null and object_key collate "C" > ${after}
      and (${upTo}::text is null or object_key collate "C" <= ${upTo})
    order by object_key collate "C" limit ${limit}`.execute(db);
  return result.rows;
}

/**
 * Objects of sound NARs: the first `count`, and as many from all over the hashes. Neither a shard of the store nor what
 * came in one day has them all.
 */
export async function listScatteredObjects(db: Kysely<Database>, count: number): Promise<string[]> {
  const result = await sql<{ object_key: string }>`
    (select object_key from nar where damaged_at is null order by nar_hash limit ${count})
    union
    select next.object_key from generate_series(0, ${count}::integer - 1) point
    cross join lateral (
      select object_key from nar
      where nar_hash >= decode(lpad(to_hex(point * 256 / ${count}::integer), 2, '0'), 'hex') and damaged_at is null
      order by nar_hash limit 1) next`.execute(db);
  return result.rows.map((row) => row.object_key);
}

export interface RowPass {
  /** The key after which the pass goes on; null when none is under way. */
  readonly after: string | null;
  /** Since the last one ended; null when none ever did. */
  readonly finishedAgoMs: number | null;
}

export async function readRowPass(db: Kysely<Database>): Promise<RowPass> {
  const result = await sql<RowPass>`
    select rows_after as after,
      (extract(epoch from gradient_now() - rows_finished_at) * 1000)::float8 as "finishedAgoMs"
    from scrub_state`.execute(db);
  return result.rows[0] as RowPass;
}

/** `after` null: the pass is over. */
export async function recordRowPass(db: Kysely<Database>, after: string | null): Promise<void> {
  const finished = after === null ? { rows_finished_at: databaseNow } : {};
  await db
    .updateTable("scrub_state")
    .set({ rows_after: after, ...finished })
    .execute();
}
