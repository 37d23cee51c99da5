import { type Kysely, type RawBuilder, type SqlBool, sql } from "kysely";
import { QUEUE_BEGIN } from "./retention-queue.ts";
import type { Database } from "./schema.ts";

/**
 * Every column that names objects of the blob store, by the prefix of the keys that it names. Whoever stores objects
 * elsewhere adds its column here, before the first object is stored: what nothing names is deleted.
 */
export const OBJECT_OWNERS: readonly { readonly prefix: string; readonly table: string; readonly column: string }[] = [
  { prefix: "nar/", table: "nar", column: "object_key" },
  { prefix: "log/", table: "sealed_log", column: "object_key" },
  { prefix: "source/", table: "source_blob", column: "object_key" },
  { prefix: "staging/", table: "source_upload_part", column: "object_key" },
  { prefix: "staging/", table: "nar_upload_part", column: "object_key" },
];

/** Prefixes that are looked through for objects that no row names. */
export const OBJECT_PREFIXES: readonly string[] = [...new Set(OBJECT_OWNERS.map(({ prefix }) => prefix))];

/** Whether a row names the object whose key this is. */
function isNamed(key: RawBuilder<unknown>): RawBuilder<SqlBool> {
  const each = OBJECT_OWNERS.map(
    ({ table, column }) => sql`exists (select from ${sql.table(table)} o where o.${sql.ref(column)} = ${key})`,
  );
  return sql<SqlBool>`(${sql.join(each, sql` or `)})`;
}

/** Objects that were discarded at least `restMs` ago, the oldest first. What a row names after all is left out. */
export async function listDiscardedObjects(
  db: Kysely<Database>,
  { restMs, limit }: { readonly restMs: number; readonly limit: number },
): Promise<string[]> {
  const { rows } = await sql<{ object_key: string }>`
    select d.object_key from discarded_object d
    where d.since < gradient_now() - ${restMs}::float8 * interval '1 millisecond'
      and not ${isNamed(sql.ref("d.object_key"))}
    order by d.since limit ${limit}`.execute(db);
  return rows.map(({ object_key }) => object_key);
}

/** They are deleted from the store. */
export async function forgetDiscarded(db: Kysely<Database>, objectKeys: readonly string[]): Promise<void> {
  await sql`delete from discarded_object where object_key = any(${objectKeys}::text[])`.execute(db);
}

/** Notes which of these objects no row names. Answers how many. */
export async function noteOrphanObjects(
  db: Kysely<Database>,
  markId: string,
  objectKeys: readonly string[],
): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into retention_step (mark_id, step, subject)
    select ${markId}, ${QUEUE_BEGIN.wave}, k.key from unnest(${objectKeys}::text[]) k (key)
    where not ${isNamed(sql.ref("k.key"))}
    on conflict do nothing`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/** Discards what was noted and is still not named. Answers how many objects. */
export async function discardOrphanObjects(db: Kysely<Database>, markId: string): Promise<number> {
  const { numAffectedRows } = await sql`
    insert into discarded_object (object_key)
    select s.subject from retention_step s
    where s.mark_id = ${markId} and s.step = ${QUEUE_BEGIN.wave} and not ${isNamed(sql.ref("s.subject"))}
    order by s.subject on conflict (object_key) do nothing`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
