import { type Kysely, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";
import { databaseNowPlus } from "./time.ts";

/** Who has not beaten for longer is gone. Six beats. */
export const SERVER_SILENCE_MS = 30_000;

export interface ServerIdentity {
  readonly id: string;
  /** See `ServerTable.storage`. */
  readonly storage: string | null;
}

export interface OtherServer {
  readonly id: string;
  readonly storage: string | null;
}

/** Makes servers join one after the other: of two that start at the same moment the second sees the first. */
export async function lockServersToJoin(trx: Transaction<Database>): Promise<void> {
  await sql`lock table server in share row exclusive mode`.execute(trx);
}

export async function listOtherServers(db: Kysely<Database>, id: string): Promise<OtherServer[]> {
  return await db
    .selectFrom("server")
    .select(["id", "storage"])
    .where("id", "<>", id)
    .where("last_seen_at", ">", databaseNowPlus(-SERVER_SILENCE_MS))
    .execute();
}

/**
 * Records that a server lives, also one that others had given up. A pause of half a lease, or a step of the database's
 * clock, starts its steady time anew: what workers said meanwhile was not recorded.
 */
export async function beat(db: Kysely<Database>, { id, storage }: ServerIdentity, leaseMs: number): Promise<void> {
  await sql`
    insert into server (id, storage) values (${id}, ${storage})
    on conflict (id) do update set
      steady_since = case
        when gradient_now() - server.last_seen_at between interval '0' and ${leaseMs / 2} * interval '1 millisecond'
        then server.steady_since else gradient_now() end,
      last_seen_at = gradient_now()`.execute(db);
}

/**
 * Whether some server could have heard every worker for `leaseMs` until a moment ago: what passed since it last said
 * that it lives counts for nothing, for it may have died then.
 */
export async function couldHear(db: Kysely<Database>, leaseMs: number): Promise<boolean> {
  const silenceMs = Math.min(SERVER_SILENCE_MS, leaseMs / 2);
  const result = await sql<{ heard: boolean }>`
    select exists (
      select from server
      where gradient_now() - last_seen_at between interval '0' and ${silenceMs} * interval '1 millisecond'
        and not draining and last_seen_at - steady_since >= ${leaseMs} * interval '1 millisecond') as heard`.execute(
    db,
  );
  return result.rows[0]?.heard === true;
}

export async function markServerDraining(db: Kysely<Database>, id: string): Promise<void> {
  await db.updateTable("server").set({ draining: true }).where("id", "=", id).execute();
}

/**
 * Closes the sessions of servers that are gone, and forgets those. `all`: of every server but this one, however lately
 * it was seen. Returns how many servers there were.
 */
export async function forgetServers(
  trx: Transaction<Database>,
  ownId: string,
  { all }: { readonly all: boolean },
): Promise<number> {
  const gone = await sql<{ id: string }>`
    select id from server
    where id <> ${ownId} and (${all} or last_seen_at < ${databaseNowPlus(-SERVER_SILENCE_MS)})
    order by id for update skip locked`.execute(trx);
  const ids = gone.rows.map(({ id }) => id);
  await sql`
    update worker_connection set disconnected_at = gradient_now()
    where disconnected_at is null and (server_id is null or server_id = any(${ids}::uuid[]))`.execute(trx);
  if (ids.length > 0) await sql`delete from server where id = any(${ids}::uuid[])`.execute(trx);
  return ids.length;
}

/** At a server's own end. */
export async function removeServer(trx: Transaction<Database>, id: string): Promise<void> {
  await sql`
    update worker_connection set disconnected_at = gradient_now()
    where disconnected_at is null and server_id = ${id}`.execute(trx);
  await trx.deleteFrom("server").where("id", "=", id).execute();
}
