import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";
import { inTransaction, type RetryPorts } from "./transaction.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

/** A worker that is to be dialled, for the organizations that have registered it at that address. */
export interface DueDial {
  readonly workerId: string;
  readonly url: string;
  readonly failures: number;
  readonly registrations: readonly DialRegistration[];
}

export interface DialRegistration {
  readonly organizationId: string;
  /** To whom the worker proves itself: the organization, or one that stands for all that use a base worker. */
  readonly peer: string;
  readonly tokenHash: string;
}

/**
 * Takes workers to dial that are not connected: nobody else dials them for `claimMs`. A worker comes with all of its
 * registrations at the same address.
 */
export async function claimDials(
  db: Kysely<Database>,
  options: { readonly claimMs: number; readonly limit: number },
  ports?: RetryPorts,
): Promise<DueDial[]> {
  const claimed = await inTransaction(db, (trx) => claimRows(trx, options), ports);
  const groups = Map.groupBy(claimed, ({ worker_id, url }) => `${worker_id} ${url}`);
  return [...groups.values()].map((group) => ({
    workerId: group[0]?.worker_id ?? "",
    url: group[0]?.url ?? "",
    failures: Math.max(...group.map((row) => row.dial_failures)),
    registrations: group.map((row) => ({
      organizationId: row.organization_id,
      peer: row.peer,
      tokenHash: row.token_hash,
    })),
  }));
}

interface ClaimedRow {
  readonly worker_id: string;
  readonly url: string;
  readonly organization_id: string;
  readonly peer: string;
  readonly token_hash: string;
  readonly dial_failures: number;
}

async function claimRows(
  trx: Transaction<Database>,
  { claimMs, limit }: { readonly claimMs: number; readonly limit: number },
): Promise<readonly ClaimedRow[]> {
  // One server chooses at a time: two would take a worker by two of its registrations. The others come back.
  const lock = await sql<{ taken: boolean }>`
    select pg_try_advisory_xact_lock(hashtextextended('claim dials', 0)) as taken`.execute(trx);
  if (!lock.rows[0]?.taken) return [];
  const { rows } = await sql<ClaimedRow>`
    with due as (
      select r.worker_id, r.url from worker_registration r
      where r.active and r.url is not null and (r.dial_after is null or r.dial_after <= gradient_now())
        and not exists (
          select 1 from worker_connection c
          where c.worker_id = r.worker_id and c.disconnected_at is null
            and c.last_seen_at > ${databaseNowPlus(-SILENCE_MS_MAX)} and r.organization_id = any(c.organization_ids))
      group by r.worker_id, r.url
      order by min(r.dial_after) nulls first
      limit ${limit}
    )
    update worker_registration r set dial_after = ${databaseNowPlus(claimMs)}
    from due where r.worker_id = due.worker_id and r.url = due.url and r.active
    returning r.worker_id, r.url, r.organization_id, r.token_hash, r.dial_failures,
      coalesce((select b.authorize_against from base_worker b where b.id = r.base_worker_id), r.organization_id)
        as peer`.execute(trx);
  return rows;
}

/** How a dial ended: the next is due after `pauseMs` unless the worker is connected. `error` is shown to its owners. */
export async function recordDial(
  db: Kysely<Database>,
  { workerId, url }: Pick<DueDial, "workerId" | "url">,
  { error, pauseMs }: { readonly error: string | null; readonly pauseMs: number },
): Promise<void> {
  await db
    .updateTable("worker_registration")
    .set({
      dial_after: databaseNowPlus(pauseMs),
      dial_error: error,
      dial_failures: error === null ? 0 : sql<number>`least(dial_failures + 1, 100)`,
    })
    .where("worker_id", "=", workerId)
    .where("url", "=", url)
    .execute();
}

/** The registration has changed: what failed before says nothing any more. */
export async function forgetDials(db: Kysely<Database>, registrationId: string): Promise<void> {
  await db
    .updateTable("worker_registration")
    .set({ dial_after: null, dial_error: null, dial_failures: 0 })
    .where("id", "=", registrationId)
    .execute();
}

/** The registrations of a worker that let it in now, of these organizations. */
export async function listDialRegistrations(
  db: Kysely<Database>,
  workerId: string,
  organizationIds: readonly string[],
): Promise<
  readonly {
    readonly organization_id: string;
    readonly peer: string;
    readonly token_hash: string;
    readonly enable_fetch: boolean;
    readonly enable_eval: boolean;
    readonly enable_build: boolean;
  }[]
> {
  return await db
    .selectFrom("worker_registration")
    .leftJoin("base_worker", "base_worker.id", "worker_registration.base_worker_id")
    .select(["organization_id", "worker_registration.token_hash"])
    .select(["worker_registration.enable_fetch", "worker_registration.enable_eval", "worker_registration.enable_build"])
    .select(sql<string>`coalesce(base_worker.authorize_against, organization_id)`.as("peer"))
    .where("worker_registration.worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .where("active", "=", true)
    .execute();
}
