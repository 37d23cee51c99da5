import { type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import { SERVER_SILENCE_MS } from "./servers.ts";

export const SweepKind = { Rows: 0, Objects: 1 } as const;
export type SweepKind = (typeof SweepKind)[keyof typeof SweepKind];

export async function insertSweep(
  db: Kysely<Database>,
  { id, kind }: { readonly id: string; readonly kind: SweepKind },
): Promise<void> {
  await db.insertInto("retention_sweep").values({ id, kind }).execute();
}

export async function finishSweep(
  db: Kysely<Database>,
  id: string,
  report: Readonly<Record<string, number>>,
): Promise<void> {
  await sql`
    update retention_sweep set finished_at = gradient_now(), report = ${JSON.stringify(report)}::jsonb
    where id = ${id}`.execute(db);
}

/** In how many milliseconds a sweep of the kind is due that runs every `intervalMs`; 0 or less: now. */
export async function nextSweepMs(db: Kysely<Database>, kind: SweepKind, intervalMs: number): Promise<number> {
  const { rows } = await sql<{ ms: number | null }>`
    select (extract(epoch from max(finished_at) - gradient_now()) * 1000)::float8 + ${intervalMs}::float8 as ms
    from retention_sweep where kind = ${kind}`.execute(db);
  return rows[0]?.ms ?? 0;
}

/** Nobody looks at older ones. */
export async function forgetOldSweeps(db: Kysely<Database>): Promise<void> {
  await sql`delete from retention_sweep where started_at < gradient_now() - interval '30 days'`.execute(db);
}

/** To be read before a server flushes its use counters. */
export async function databaseTime(db: Kysely<Database>): Promise<string> {
  const { rows } = await sql<{ now: string }>`select gradient_now()::text as now`.execute(db);
  return rows[0]?.now as string;
}

/** This server has written down whatever was asked of it before `since` (`databaseTime`). */
export async function recordUsesFlushed(db: Kysely<Database>, serverId: string, since: string): Promise<void> {
  await sql`update server set uses_flushed_at = ${since}::timestamptz where id = ${serverId}`.execute(db);
}

/** Servers that live and have not written down what was asked of them before `since`. */
export async function countUnflushedServers(db: Kysely<Database>, since: string): Promise<number> {
  const { rows } = await sql<{ count: number }>`
    select count(*)::int as count from server
    where last_seen_at > gradient_now() - ${SERVER_SILENCE_MS} * interval '1 millisecond'
      and (uses_flushed_at is null or uses_flushed_at < ${since}::timestamptz)`.execute(db);
  return rows[0]?.count ?? 0;
}
