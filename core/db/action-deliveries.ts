import { type Kysely, sql } from "kysely";
import { jsonbText } from "./json-text.ts";
import type { Database } from "./schema.ts";
import type { EventFacts, ProjectActionRow } from "./tables/actions.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export interface DueDelivery extends Pick<ProjectActionRow, "name" | "type" | "config" | "token" | "failures"> {
  readonly id: string;
  readonly action_id: string;
  readonly event: string;
  readonly facts: EventFacts;
  /** This attempt's number, from 1. */
  readonly attempts: number;
  readonly project_name: string;
  readonly organization_name: string;
}

/**
 * Deliveries that are due, for one attempt each. Nobody else claims them for `leaseMs`; whoever dies over one leaves it
 * to be sent by another then.
 */
export async function claimDeliveries(db: Kysely<Database>, limit: number, leaseMs: number): Promise<DueDelivery[]> {
  const { rows } = await sql<DueDelivery>`
    with claimed as (
      update action_delivery d set attempts = attempts + 1, due_at = ${databaseNowPlus(leaseMs)}
      where id in (
        select w.id from action_delivery w join project_action o on o.id = w.action_id
        where w.delivered_at is null and w.due_at <= ${databaseNow}
          and (o.paused_until is null or o.paused_until <= ${databaseNow})
        order by w.due_at limit ${limit} for update of w skip locked)
      returning d.id, d.action_id, d.event, d.facts, d.attempts
    )
    select c.*, a.name, a.type, a.config, a.token, a.failures, p.name as project_name, o.name as organization_name
    from claimed c join project_action a on a.id = c.action_id
    join project p on p.id = a.project_id join organization o on o.id = p.organization_id`.execute(db);
  return rows;
}

export interface DeliveryResult {
  readonly success: boolean;
  readonly request_body: string;
  readonly response_status: number | null;
  readonly response_body: string | null;
  readonly error_message: string | null;
  readonly duration_ms: number;
}

/** It is over; whether well, the result says. */
export async function endDelivery(db: Kysely<Database>, id: string, result: DeliveryResult): Promise<void> {
  await sql`
    with ended as (
      update action_delivery set delivered_at = ${databaseNow}, success = ${result.success},
        request_body = ${result.request_body}, response_status = ${result.response_status},
        response_body = ${result.response_body}, error_message = ${result.error_message},
        duration_ms = ${result.duration_ms}
      where id = ${id} returning action_id)
    update project_action set last_fired_at = ${databaseNow},
      failures = case when ${result.success} then 0 else failures end,
      paused_until = case when ${result.success} then null else paused_until end
    where id in (select action_id from ended)`.execute(db);
}

/** It is sent again after `ms`; everything else of its action waits for `pauseMs`: others have their turn. */
export async function delayDelivery(
  db: Kysely<Database>,
  { id, action_id }: Pick<DueDelivery, "id" | "action_id">,
  { ms, pauseMs, error }: { readonly ms: number; readonly pauseMs: number; readonly error: string | null },
): Promise<void> {
  await sql`
    with delayed as (
      update action_delivery set due_at = ${databaseNowPlus(ms)}, error_message = ${error} where id = ${id})
    update project_action set failures = least(failures + 1, 1000), paused_until = ${databaseNowPlus(pauseMs)}
    where id = ${action_id}`.execute(db);
}

/** One that is sent by hand: nobody else claims it. */
export async function insertTestDelivery(
  db: Kysely<Database>,
  {
    facts,
    leaseMs,
    ...delivery
  }: {
    readonly id: string;
    readonly action_id: string;
    readonly event: string;
    readonly facts: EventFacts;
    readonly leaseMs: number;
  },
): Promise<void> {
  const due_at = databaseNowPlus(leaseMs);
  await db
    .insertInto("action_delivery")
    .values({ ...delivery, facts: jsonbText(facts), due_at, attempts: 1 })
    .execute();
}

export interface DeliveryRow extends DeliveryResult {
  readonly id: string;
  readonly event: string;
  readonly delivered_at: Date;
}

/** Those that are over, newest first. */
export async function listDeliveries(
  db: Kysely<Database>,
  actionId: string,
  { limit, offset }: { readonly limit: number; readonly offset: number },
): Promise<Omit<DeliveryRow, "request_body" | "response_body">[]> {
  const rows = await db
    .selectFrom("action_delivery")
    .select(["id", "event", "success", "response_status", "error_message", "duration_ms", "delivered_at"])
    .where("action_id", "=", actionId)
    .where("delivered_at", "is not", null)
    .orderBy("delivered_at", "desc")
    .orderBy("id")
    .limit(limit)
    .offset(offset)
    .execute();
  return rows as Omit<DeliveryRow, "request_body" | "response_body">[];
}

export async function findDelivery(
  db: Kysely<Database>,
  actionId: string,
  id: string,
): Promise<DeliveryRow | undefined> {
  const row = await db
    .selectFrom("action_delivery")
    .select(["id", "event", "success", "response_status", "error_message", "duration_ms", "delivered_at"])
    .select(["request_body", "response_body"])
    .where("action_id", "=", actionId)
    .where("id", "=", id)
    .where("delivered_at", "is not", null)
    .executeTakeFirst();
  return row as DeliveryRow | undefined;
}

/** Of those that are over: what is older than `keepMs`, and of each action what goes beyond `keepCount`. */
export async function deleteOldDeliveries(
  db: Kysely<Database>,
  { keepMs, keepCount, limit }: { readonly keepMs: number; readonly keepCount: number; readonly limit: number },
): Promise<void> {
  await sql`
    delete from action_delivery where id in (
      select id from action_delivery where delivered_at < ${databaseNowPlus(-keepMs)} limit ${limit})`.execute(db);
  await sql`
    delete from action_delivery where id in (
      select excess.id from project_action a cross join lateral (
        select id from action_delivery d where d.action_id = a.id and d.delivered_at is not null
        order by d.delivered_at desc, d.id offset ${keepCount} limit ${limit}) excess)`.execute(db);
}
