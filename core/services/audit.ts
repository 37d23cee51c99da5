import type { Kysely } from "kysely";
import {
  countRecentAuditEvents,
  deleteAuditExcess,
  deleteOldAuditEvents,
  insertAuditEvent,
  listAuditExcess,
  type NewAuditEvent,
} from "../db/audit-events.ts";
import type { Database } from "../db/schema.ts";
import type { AuditMetadata } from "../db/tables/audit-event.ts";
import type { Actor, ActorClient } from "../domain/actor.ts";
import type { AuditEvent } from "../domain/audit-events.ts";
import { DAY, MINUTE, systemClock } from "../lib/clock.ts";
import { uuidV7 } from "../lib/ids.ts";

/** Who did something, and from where. */
export interface AuditAuthor {
  /** Null where nobody is known. */
  readonly userId: string | null;
  readonly client?: ActorClient | null | undefined;
  /** The API key that was used. */
  readonly keyId?: string | null | undefined;
}

export interface AuditRecord extends AuditAuthor {
  readonly event: AuditEvent;
  /** What it was done to, while it exists. Of what is deleted, tell the name in the metadata instead. */
  readonly organizationId?: string | null | undefined;
  readonly cacheId?: string | null | undefined;
  /** Never a secret. Texts are cut at 1 000 characters, lists at 100 entries. */
  readonly metadata?: AuditMetadata | undefined;
}

const TEXT_MAX_LENGTH = 1_000;
const LIST_MAX_LENGTH = 100;
const USER_AGENT_MAX_LENGTH = 512;
/**
 * Whoever knows a name can make these come, for somebody or for nobody: they are recorded so often a minute, and push
 * out nothing but their like.
 */
const FOREIGN: readonly AuditEvent[] = ["auth.deny", "login.failure", "cli.device.start"];
const FOREIGN_STEP = { withinMs: MINUTE, max: 60 };
/** Of one address: a program may try the same key again and again. */
const DENIAL_STEP = { withinMs: MINUTE, max: 1 };
/** A year, and a month to look back at it. */
const KEEP_MS: number = 400 * DAY;
/** Of one user and one organization or cache, or none. A hundred deeds a day would reach it after the time above. */
const ROWS_OF_USER_MAX = 40_000;
const CHUNK = 1_000;
const EXCESSES_MAX = 100;

/**
 * Records what somebody did. Give it the transaction that does it, so that there is no deed without its record, and no
 * record of what did not happen: `recordAudit(trx, { ...auditAuthor(actor), event: "project.delete", metadata })`.
 */
export async function recordAudit(db: Kysely<Database>, record: AuditRecord): Promise<void> {
  const { event, userId } = record;
  if (FOREIGN.includes(event) && (await isOften(db, { event, userId }, FOREIGN_STEP))) return;
  await insertAuditEvent(db, auditRow(record));
}

/** The row of a record, for a statement that writes it beside the deed itself. */
export function auditRow(record: AuditRecord): NewAuditEvent {
  const { event, userId, client, keyId } = record;
  const metadata = keyId ? { ...record.metadata, api_key_id: keyId } : (record.metadata ?? {});
  return {
    id: uuidV7(systemClock.now()),
    event,
    user_id: userId,
    organization_id: record.organizationId ?? null,
    cache_id: record.cacheId ?? null,
    ip: addressOf(client),
    user_agent: client?.userAgent ? clean(client.userAgent).slice(0, USER_AGENT_MAX_LENGTH) : null,
    metadata: cleanAll(metadata),
  };
}

export function auditAuthor(actor: Actor): AuditAuthor {
  return { userId: actor.user?.id ?? null, client: actor.client, keyId: actor.key?.id };
}

/** Records what was done to a project, or to something of it, among what was done in its organization. */
export async function recordProjectAudit(
  db: Kysely<Database>,
  actor: Actor,
  { name, organization_id: organizationId }: { readonly name: string; readonly organization_id: string },
  { event, ...metadata }: { readonly event: AuditEvent } & AuditMetadata,
): Promise<void> {
  await recordAudit(db, { ...auditAuthor(actor), event, organizationId, metadata: { project: name, ...metadata } });
}

/** Records refused credentials, once a minute for a user and an address: a program may try again and again. */
export async function recordDenial(
  db: Kysely<Database>,
  { userId, client, metadata }: Pick<AuditRecord, "userId" | "client" | "metadata">,
): Promise<void> {
  const event = "auth.deny";
  if (await isOften(db, { event, userId, ip: addressOf(client) }, DENIAL_STEP)) return;
  await recordAudit(db, { event, userId, client, metadata });
}

/** Removes what is older than 400 days, and the oldest of what is too much. */
export async function pruneAuditEvents(db: Kysely<Database>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await deleteOldAuditEvents(db, KEEP_MS, CHUNK)) >= CHUNK);
  while (!signal.aborted) {
    const excesses = await listAuditExcess(db, { foreign: FOREIGN, rowsMax: ROWS_OF_USER_MAX, limit: EXCESSES_MAX });
    for (const excess of excesses) await deleteAuditExcess(db, excess, { foreign: FOREIGN, limit: CHUNK });
    if (excesses.length === 0) return;
  }
}

async function isOften(
  db: Kysely<Database>,
  what: Parameters<typeof countRecentAuditEvents>[1],
  step: typeof FOREIGN_STEP,
): Promise<boolean> {
  return (await countRecentAuditEvents(db, what, step)) >= step.max;
}

/** Null also for who came over a Unix socket. */
function addressOf(client: AuditAuthor["client"]): string | null {
  return client?.address || null;
}

function cleanAll(metadata: AuditMetadata): AuditMetadata {
  const entries = Object.entries(metadata).map(([name, value]): [string, AuditMetadata[string]] => {
    if (typeof value === "string") return [name, clean(value)];
    if (typeof value !== "object" || value === null) return [name, value];
    return [name, value.slice(0, LIST_MAX_LENGTH).map(clean)];
  });
  return Object.fromEntries(entries);
}

/** PostgreSQL's `jsonb` refuses NUL and halves of surrogate pairs. */
function clean(text: string): string {
  return text.slice(0, TEXT_MAX_LENGTH).replaceAll("\0", "").toWellFormed();
}
