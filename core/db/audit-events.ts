import { type Kysely, type Selectable, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { AuditEventRow, AuditEventTable } from "./tables/audit-event.ts";
import { databaseNowPlus } from "./time.ts";

/** Whose events: what a user did, or what was done to an organization or a cache. */
export type AuditSubject =
  | { readonly userId: string }
  | { readonly organizationId: string }
  | { readonly cacheId: string };

interface Window {
  readonly limit: number;
  readonly offset: number;
}

export type NewAuditEvent = Pick<
  Selectable<AuditEventTable>,
  "id" | "event" | "user_id" | "organization_id" | "cache_id" | "ip" | "user_agent" | "metadata"
>;

/** Who and what is gone by now, or goes at this moment, is left out of the row. */
export async function insertAuditEvent(db: Kysely<Database>, row: NewAuditEvent): Promise<void> {
  await sql`
    with author as (select id, username from user_account where id = ${row.user_id} for key share),
      place as (select id from organization where id = ${row.organization_id} for key share),
      store as (select id from cache where id = ${row.cache_id} for key share)
    insert into audit_event (id, event, user_id, username, organization_id, cache_id, ip, user_agent, metadata)
    values (${row.id}, ${row.event}, (select id from author), (select username from author), (select id from place),
      (select id from store), ${row.ip}, ${row.user_agent}, ${JSON.stringify(row.metadata)}::jsonb)`.execute(db);
}

/** How often the same was recorded of a user within `withinMs`, up to `max`; of one address, where it is given. */
export async function countRecentAuditEvents(
  db: Kysely<Database>,
  { event, userId, ip }: { readonly event: string; readonly userId: string | null; readonly ip?: string | null },
  { withinMs, max }: { readonly withinMs: number; readonly max: number },
): Promise<number> {
  const rows = await db
    .selectFrom("audit_event")
    .select("id")
    .where("user_id", userId === null ? "is" : "=", userId)
    .where("created_at", ">", databaseNowPlus(-withinMs))
    .where("event", "=", event)
    .$if(ip !== undefined, (query) => query.where("ip", ip ? "=" : "is", ip ?? null))
    .limit(max)
    .execute();
  return rows.length;
}

/** The newest first. */
export async function listAuditEvents(
  db: Kysely<Database>,
  subject: AuditSubject,
  { limit, offset }: Window,
): Promise<AuditEventRow[]> {
  return await eventsOf(db, subject)
    .selectAll()
    .orderBy("created_at", "desc")
    .orderBy("id", "desc")
    .limit(limit)
    .offset(offset)
    .execute();
}

export async function countAuditEvents(db: Kysely<Database>, subject: AuditSubject): Promise<number> {
  const { total } = await eventsOf(db, subject)
    .select(sql<number>`count(*)::int`.as("total"))
    .executeTakeFirstOrThrow();
  return total;
}

/** Rows older than `keepMs`, `limit` at most. Returns how many went. */
export async function deleteOldAuditEvents(db: Kysely<Database>, keepMs: number, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from audit_event where id in (
      select id from audit_event where created_at < ${databaseNowPlus(-keepMs)}
      order by created_at limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

/** What one user did to one organization or cache, or to none, as far as it is more than is kept. */
interface AuditExcess {
  readonly user_id: string | null;
  readonly organization_id: string | null;
  readonly cache_id: string | null;
  /** What others tried in the user's name, which is counted by itself. */
  readonly foreign: boolean;
  readonly excess: number;
}

/** `foreign` names the events of which others decide how often they come. */
export async function listAuditExcess(
  db: Kysely<Database>,
  {
    foreign,
    rowsMax,
    limit,
  }: { readonly foreign: readonly string[]; readonly rowsMax: number; readonly limit: number },
): Promise<AuditExcess[]> {
  const { rows } = await sql<AuditExcess>`
    select user_id, organization_id, cache_id, "foreign", (count(*) - ${rowsMax})::int as excess
    from (select *, event = any(${foreign}) as "foreign" from audit_event) e
    group by user_id, organization_id, cache_id, "foreign"
    having count(*) > ${rowsMax} limit ${limit}`.execute(db);
  return rows;
}

/** The oldest of it, `limit` rows at most. */
export async function deleteAuditExcess(
  db: Kysely<Database>,
  { user_id, organization_id, cache_id, ...of }: AuditExcess,
  { foreign, limit }: { readonly foreign: readonly string[]; readonly limit: number },
): Promise<void> {
  const oldest = db
    .selectFrom("audit_event")
    .select("id")
    .where("user_id", user_id === null ? "is" : "=", user_id)
    .where("organization_id", organization_id === null ? "is" : "=", organization_id)
    .where("cache_id", cache_id === null ? "is" : "=", cache_id)
    .where(sql<boolean>`(event = any(${foreign})) = ${of.foreign}`)
    .orderBy("created_at")
    .orderBy("id")
    .limit(Math.min(of.excess, limit));
  await db.deleteFrom("audit_event").where("id", "in", oldest).execute();
}

function eventsOf(db: Kysely<Database>, subject: AuditSubject) {
  const events = db.selectFrom("audit_event");
  if ("userId" in subject) return events.where("user_id", "=", subject.userId);
  if ("organizationId" in subject) return events.where("organization_id", "=", subject.organizationId);
  return events.where("cache_id", "=", subject.cacheId);
}
