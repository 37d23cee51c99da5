import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** Links builds to an evaluation: what the API calls the evaluation's builds. Links that exist stay. */
export async function linkBuilds(
  trx: Transaction<Database>,
  evaluationId: string,
  links: readonly { readonly id: string; readonly build_id: string }[],
): Promise<void> {
  await sql`
    insert into evaluation_build (id, evaluation_id, build_id)
    select l.id, ${evaluationId}, l.build_id
    from unnest(${links.map((l) => l.id)}::uuid[], ${links.map((l) => l.build_id)}::uuid[]) as l(id, build_id)
    on conflict (evaluation_id, build_id) do nothing`.execute(trx);
}

/** Which of the builds the evaluation links. */
export async function listLinkedBuilds(
  db: Kysely<Database>,
  evaluationId: string,
  buildIds: readonly string[],
): Promise<ReadonlySet<string>> {
  if (buildIds.length === 0) return new Set();
  const rows = await db
    .selectFrom("evaluation_build")
    .select("build_id")
    .where("evaluation_id", "=", evaluationId)
    .where("build_id", "=", sql<string>`any(${buildIds})`)
    .execute();
  return new Set(rows.map((row) => row.build_id));
}

/** Of the evaluation that the attempt is of. */
export async function countBuildsOfAttempt(db: Kysely<Database>, attemptId: string): Promise<number> {
  const { count } = await db
    .selectFrom("evaluation_build")
    .innerJoin("attempt", "attempt.evaluation_id", "evaluation_build.evaluation_id")
    .select(sql<number>`count(*)::int`.as("count"))
    .where("attempt.id", "=", attemptId)
    .executeTakeFirstOrThrow();
  return count;
}

export async function insertEntryPoints(
  trx: Transaction<Database>,
  evaluationId: string,
  entryPoints: readonly { readonly id: string; readonly attribute: readonly string[]; readonly build_id: string }[],
): Promise<void> {
  if (entryPoints.length === 0) return;
  await sql`
    insert into entry_point (id, evaluation_id, attribute, build_id)
    select r.id, ${evaluationId}, r.attribute, r.build_id
    from jsonb_to_recordset(${JSON.stringify(entryPoints)}::jsonb) as r(id uuid, attribute text[], build_id uuid)
    on conflict (evaluation_id, attribute) do nothing`.execute(trx);
}

export async function insertMessage(
  trx: Transaction<Database>,
  message: {
    readonly id: string;
    readonly evaluation_id: string;
    readonly level: number;
    readonly message: string;
    readonly source: string;
    readonly attribute: readonly string[] | null;
  },
): Promise<void> {
  await trx
    .insertInto("evaluation_message")
    .values({ ...message, attribute: message.attribute === null ? null : [...message.attribute] })
    .onConflict((conflict) => conflict.column("id").doNothing())
    .execute();
}
