import { sql, type Transaction } from "kysely";
import { shownBuildStatus } from "./builds-read-expressions.ts";
import type { Database } from "./schema.ts";
import { databaseNow } from "./time.ts";

export interface WatchedEvaluation {
  readonly id: string;
  readonly project_id: string;
  readonly repository: string;
  readonly kind: number;
  readonly ended: boolean;
}

/**
 * The one that was looked at longest ago, locked: another server looks at another. Not while an action of its project
 * has more than `pendingMax` to be sent: what happens meanwhile is told as it stands then.
 */
export async function lockWatchedEvaluation(
  trx: Transaction<Database>,
  { lookAgainMs, pendingMax }: { readonly lookAgainMs: number; readonly pendingMax: number },
): Promise<WatchedEvaluation | undefined> {
  const { rows } = await sql<WatchedEvaluation>`
    select e.id, e.project_id, e.repository, e.kind, e.status in (5, 6, 7) as ended
    from action_watch w join evaluation e on e.id = w.evaluation_id
    where w.looked_at <= ${databaseNow} - ${lookAgainMs} * interval '1 millisecond'
      and not exists (
        select from project_action a where a.project_id = e.project_id and exists (
          select from action_delivery d where d.action_id = a.id and d.delivered_at is null offset ${pendingMax}))
    order by w.looked_at limit 1 for update of w skip locked`.execute(trx);
  return rows[0];
}

export interface ChangedBuild {
  readonly link_id: string;
  readonly drv_path: string;
  /** Told last; null where nothing was. */
  readonly told: number | null;
  /** As the link shows it, but Created by its own number. */
  readonly status: number;
}

/** Builds of the evaluation whose state is not the one that was told last. */
export async function listChangedBuilds(
  trx: Transaction<Database>,
  evaluationId: string,
  limit: number,
): Promise<ChangedBuild[]> {
  const status = sql<number>`case when evaluation_build.outcome is null then build.status else ${shownBuildStatus} end`;
  return await trx
    .selectFrom("evaluation_build")
    .innerJoin("build", "build.id", "evaluation_build.build_id")
    .leftJoin("action_told_build as told", "told.evaluation_build_id", "evaluation_build.id")
    .select(["evaluation_build.id as link_id", "build.drv_path", "told.status as told", status.as("status")])
    .where("evaluation_build.evaluation_id", "=", evaluationId)
    .where(sql<boolean>`told.status is distinct from (${status})`)
    .orderBy("evaluation_build.id")
    .limit(limit)
    .execute();
}

export interface BuildTelling {
  readonly event: string;
  readonly facts: string;
}

/** For every active action of the project that wants to know, in this order. */
export async function insertBuildDeliveries(
  trx: Transaction<Database>,
  projectId: string,
  tellings: readonly BuildTelling[],
): Promise<void> {
  if (tellings.length === 0) return;
  await sql`
    insert into action_delivery (id, action_id, event, facts)
    select gen_random_uuid(), a.id, t.event, t.facts::jsonb
    from jsonb_to_recordset(${JSON.stringify(tellings)}::jsonb) as t(event text, facts text)
    join project_action a on a.project_id = ${projectId} and a.active and a.events @> array[t.event]`.execute(trx);
}

export async function noteToldBuilds(trx: Transaction<Database>, builds: readonly ChangedBuild[]): Promise<void> {
  if (builds.length === 0) return;
  const rows = builds.map(({ link_id, status }) => ({ link_id, status }));
  await sql`
    insert into action_told_build (evaluation_build_id, status)
    select link_id, status from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as t(link_id uuid, status smallint)
    on conflict (evaluation_build_id) do update set status = excluded.status`.execute(trx);
}

/** It is looked at again later, unless it is over and everything was told. */
export async function noteWatched(
  trx: Transaction<Database>,
  evaluationId: string,
  { over }: { readonly over: boolean },
): Promise<void> {
  if (!over) {
    const later = trx.updateTable("action_watch").set({ looked_at: databaseNow });
    await later.where("evaluation_id", "=", evaluationId).execute();
    return;
  }
  await trx.deleteFrom("action_watch").where("evaluation_id", "=", evaluationId).execute();
  await sql`
    delete from action_told_build where evaluation_build_id in (
      select id from evaluation_build where evaluation_id = ${evaluationId})`.execute(trx);
}
