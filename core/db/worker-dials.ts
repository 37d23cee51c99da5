import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

/** A session that was silent for longer is over, whether or not a server lived to write that down. */
const SILENCE_MS_MAX = 180_000;

/** A worker that is to be dialled, for the organizations that have registered it at that address. */
export interface DueDial {
  readonly workerId: string;
  readonly url: string;
  readonly failures: number;
  readonly registrations: readonly { readonly organizationId: string; readonly tokenHash: string }[];
}

/**
 * Takes workers to dial that are not connected: nobody else dials them for `claimMs`. A worker comes with all of its
 * registrations at the same address.
 */
export async function claimDials(
  db: Kysely<Database>,
  { claimMs, limit }: { readonly claimMs: number; readonly limit: number },
): Promise<DueDial[]> {
  // The row is looked at once more where it is written: of two servers that choose it at once, one gets it.
  const { rows: claimed } = await sql<{ worker_id: string; url: string }>`
    with due as (
      select r.id from worker_registration r
      where r.active and r.url is not null and (r.dial_after is null or r.dial_after <= gradient_now())
        and not exists (
          select 1 from worker_connection c
          where c.worker_id = r.worker_id and c.disconnected_at is null
            and c.last_seen_at > ${databaseNowPlus(-SILENCE_MS_MAX)} and r.organization_id = any(c.organization_ids))
        -- One server chooses at a time: two would take a worker by two registrations. The others come back.
        and pg_try_advisory_xact_lock(hashtextextended('claim dials', 0))
      order by r.dial_after nulls first
      limit ${limit}
    )
    update worker_registration r set dial_after = ${databaseNowPlus(claimMs)}
    from due where r.id = due.id and r.active and (r.dial_after is null or r.dial_after <= gradient_now())
    returning r.worker_id, r.url`.execute(db);
  if (claimed.length === 0) return [];
  const rows = await db
    .selectFrom("worker_registration")
    .select(["worker_id", "url", "organization_id", "token_hash", "dial_failures"])
    .where("worker_id", "=", sql<string>`any(${claimed.map((row) => row.worker_id)}::uuid[])`)
    .where("active", "=", true)
    .execute();
  const isClaimed = (row: { readonly worker_id: string; readonly url: string | null }) =>
    claimed.some(({ worker_id, url }) => worker_id === row.worker_id && url === row.url);
  const groups = Map.groupBy(rows.filter(isClaimed), ({ worker_id, url }) => `${worker_id} ${url}`);
  return [...groups.values()].map((group) => ({
    workerId: group[0]?.worker_id ?? "",
    url: group[0]?.url ?? "",
    failures: Math.max(...group.map((row) => row.dial_failures)),
    registrations: group.map((row) => ({ organizationId: row.organization_id, tokenHash: row.token_hash })),
  }));
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
    readonly token_hash: string;
    readonly enable_fetch: boolean;
    readonly enable_eval: boolean;
    readonly enable_build: boolean;
  }[]
> {
  return await db
    .selectFrom("worker_registration")
    .select(["organization_id", "token_hash", "enable_fetch", "enable_eval", "enable_build"])
    .where("worker_id", "=", workerId)
    .where("organization_id", "=", sql<string>`any(${organizationIds}::uuid[])`)
    .where("active", "=", true)
    .execute();
}
