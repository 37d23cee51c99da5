import { type Kysely, type RawBuilder, sql, type Transaction } from "kysely";
import type { BuildStatus } from "../domain/states.ts";
import type { Database } from "./schema.ts";

export interface LockedBuild {
  readonly id: string;
  readonly organization_id: string;
  readonly drv_path: string;
  readonly status: BuildStatus;
  readonly pending_dependencies: number;
  readonly transient_failures: number;
}

const LOCKED_BUILD = [
  "id",
  "organization_id",
  "drv_path",
  "status",
  "pending_dependencies",
  "transient_failures",
] as const;

/** Locks builds in id order: every transition that touches several does, so that none waits on another in a ring. */
export async function lockBuilds(trx: Transaction<Database>, ids: readonly string[]): Promise<LockedBuild[]> {
  const rows = await trx
    .selectFrom("build")
    .select(LOCKED_BUILD)
    .where("id", "=", sql<string>`any(${ids})`)
    .orderBy("id")
    .forNoKeyUpdate()
    .execute();
  return rows as LockedBuild[];
}

/** Moves builds from one of `from` to `to`; a build in another state stays. Returns those that moved. */
export async function moveBuilds(
  trx: Transaction<Database>,
  ids: readonly string[],
  {
    from,
    to,
    retryInMs,
  }: { readonly from: readonly BuildStatus[]; readonly to: BuildStatus; readonly retryInMs?: number },
): Promise<string[]> {
  const result = await sql<{ id: string }>`
    update build set
      status = ${to},
      updated_at = gradient_now(),
      ready_at = case when ${to} = 1 then gradient_now() else ready_at end,
      retry_at = case when ${to} = 8 then gradient_now() + ${retryInMs ?? 0} * interval '1 millisecond' end,
      transient_failures = transient_failures + case when ${to} = 8 then 1 else 0 end,
      deterministic_failure = false
    where id = any(${ids}) and status = any(${from}::smallint[])
    returning id`.execute(trx);
  return result.rows.map(({ id }) => id);
}

/** Every build that waits for these, however far above. Locked, in id order. */
export async function lockWaitingDependents(trx: Transaction<Database>, ids: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string }>`
    select id from build where status in (0, 1, 8) and id in (${waitingAbove(ids)})
    order by id for no key update`.execute(trx);
  return result.rows.map(({ id }) => id);
}

/** The ids of what waits for these, however far above. */
export const waitingAbove = (ids: readonly string[]): RawBuilder<{ build_id: string }> =>
  waitingAboveThose(sql`any(${ids})`);

/** The same of builds that the statement itself finds: `any(select ...)`. */
export const waitingAboveThose = (those: RawBuilder<unknown>): RawBuilder<{ build_id: string }> => sql<{
  build_id: string;
}>`
  with recursive above as (
    select w.build_id from (${waitingOn(those)}) w
    union
    select w.build_id from above cross join lateral (${waitingOn(sql`above.build_id`)}) w
  )
  select build_id from above`;

/**
 * What waits for these directly. Each `offset 0` keeps the order, from the edges up: how many there are above is never
 * known, and PostgreSQL would rather read the edges of all builds, once for each step.
 */
const waitingOn = (those: RawBuilder<unknown>) => sql`
  select e.build_id
  from (select build_id from build_edge where dependency_id = ${those} and not satisfied offset 0) e
  join lateral (select from build where build.id = e.build_id and status in (0, 1, 8) offset 0) b on true`;

/** Failed builds whose pause is over go back into the queue. Returns their organizations. */
export async function requeueRetries(db: Kysely<Database>): Promise<string[]> {
  const result = await sql<{ organization_id: string }>`
    update build set status = case when pending_dependencies = 0 then 1 else 0 end, retry_at = null,
      ready_at = gradient_now(), updated_at = gradient_now()
    where id in (
      select id from build where status = 8 and retry_at <= gradient_now()
      order by id limit 1000 for no key update skip locked)
    returning organization_id`.execute(db);
  return [...new Set(result.rows.map((row) => row.organization_id))];
}

/**
 * What these builds wait for although it has ended and will not be there: it failed or was aborted. Read with locks, so
 * that an end which goes on at this moment is seen here, or sees these builds wait. What a recovery is to bring back is
 * not among them. These locks come after those of `ids`, and need not be in one order with them: when just that input
 * ends at this moment, a deadlock may have to repeat one of the two transactions.
 */
export async function lockFailedBelow(trx: Transaction<Database>, ids: readonly string[]): Promise<string[]> {
  const result = await sql<{ id: string; failed: boolean }>`
    select d.id, d.status in (4, 5, 6, 9) and not exists (
      select from recovery_need n where n.build_id = d.id) as failed
    from build d
    where d.id in (select dependency_id from build_edge where build_id = any(${ids}::uuid[]) and not satisfied)
    order by d.id for share of d`.execute(trx);
  return result.rows.filter(({ failed }) => failed).map(({ id }) => id);
}
