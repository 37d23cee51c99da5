import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";

/** A build that is open, and everything it still waits for, however far below. At most `limit`. */
export async function listOpenBelow(db: Kysely<Database>, buildId: string, limit: number): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with recursive below as (
      select id from build where id = ${buildId} and status in (0, 1, 2, 8)
      union
      select e.dependency_id from below cross join lateral (
        select dependency_id from build_edge where build_id = below.id and not satisfied offset 0) e
    )
    select id from below limit ${limit}`.execute(db);
  return rows.map(({ id }) => id);
}

/** Open builds of an evaluation whose priority is below this. At most `limit`. */
export async function listLessUrgent(
  db: Kysely<Database>,
  evaluationId: string,
  { priority, limit }: { readonly priority: number; readonly limit: number },
): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    select b.id from evaluation_build l join build b on b.id = l.build_id
    where l.evaluation_id = ${evaluationId} and l.outcome is null and b.status in (0, 1, 8) and b.priority < ${priority}
    limit ${limit}`.execute(db);
  return rows.map(({ id }) => id);
}

/** Puts builds up to a priority; what is higher already stays. Locks in id order. */
export async function raiseBuilds(db: Kysely<Database>, ids: readonly string[], priority: number): Promise<void> {
  await sql`
    update build set priority = ${priority}, updated_at = gradient_now()
    from (
      select id from build where id = any(${ids}::uuid[]) and priority < ${priority}
      order by id for no key update) low
    where build.id = low.id`.execute(db);
}

/** Puts one build at a priority, also down. */
export async function setBuildPriority(db: Kysely<Database>, id: string, priority: number): Promise<void> {
  await sql`update build set priority = ${priority}, updated_at = gradient_now() where id = ${id}`.execute(db);
}

/** False when the evaluation has ended, or is gone. */
export async function setEvaluationPriority(db: Kysely<Database>, id: string, priority: number): Promise<boolean> {
  const { rows } = await sql`
    update evaluation set priority = ${priority}, updated_at = gradient_now()
    where id = ${id} and status in (0, 1, 2, 3, 4, 8) returning id`.execute(db);
  return rows.length > 0;
}

/** Evaluations that people have put first and that have not ended. */
export async function listUrgentEvaluations(
  db: Kysely<Database>,
): Promise<readonly { readonly id: string; readonly priority: number }[]> {
  const { rows } = await sql<{ id: string; priority: number }>`
    select id, priority from evaluation where priority <> 0 and priority > 0 and status in (0, 1, 2, 3, 4, 8)`.execute(
    db,
  );
  return rows;
}

/** Whoever asks for a build again says anew how urgent it is. */
export async function resetEndedPriorities(db: Kysely<Database>): Promise<void> {
  await sql`
    update build set priority = 0 where id in (
      select id from build where priority <> 0 and status not in (0, 1, 2, 8)
      limit 1000 for no key update skip locked)`.execute(db);
}
