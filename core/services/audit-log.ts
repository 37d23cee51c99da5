import type { AuditEventView, RealmAuditEventView } from "../api/audit.ts";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { zonedTime } from "../api/times.ts";
import { type AuditSubject, countAuditEvents, listAuditEvents } from "../db/audit-events.ts";
import type { AuditEventRow } from "../db/tables/audit-event.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { requireCache, requireOrganization } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";

type AuditLogDeps = Pick<ServiceDeps, "db">;

/** What the user did, the newest first. A key with a pin is for what it is pinned to. */
export async function listOwnAuditEvents(
  deps: AuditLogDeps,
  actor: Actor,
  query: PageQuery,
): Promise<Page<AuditEventView>> {
  const user = requireUser(actor);
  if (actor.key?.organizationId || actor.key?.cacheId) {
    throw new DomainError("forbidden", "A key with a pin does not read its owner's audit log: sign in");
  }
  return await pageOf(deps, { userId: user.id }, query, (row) => ({
    ...viewEvent(row),
    ip: row.ip,
    user_agent: row.user_agent,
  }));
}

/** What was done to the organization, for who may change its settings. */
export async function listOrganizationAuditEvents(
  deps: AuditLogDeps,
  actor: Actor,
  name: string,
  query: PageQuery,
): Promise<Page<RealmAuditEventView>> {
  const { organization } = await requireOrganization(deps, actor, name, "manageOrgSettings");
  return await pageOf(deps, { organizationId: organization.id }, query, viewRealmEvent);
}

export async function listCacheAuditEvents(
  deps: AuditLogDeps,
  actor: Actor,
  name: string,
  query: PageQuery,
): Promise<Page<RealmAuditEventView>> {
  const { cache } = await requireCache(deps, actor, name, "manageCacheSettings");
  return await pageOf(deps, { cacheId: cache.id }, query, viewRealmEvent);
}

async function pageOf<View>(
  { db }: AuditLogDeps,
  subject: AuditSubject,
  query: PageQuery,
  view: (row: AuditEventRow) => View,
): Promise<Page<View>> {
  const items = (await listAuditEvents(db, subject, pageWindow(query))).map(view);
  return { items, total: await countAuditEvents(db, subject), ...query };
}

function viewRealmEvent(row: AuditEventRow): RealmAuditEventView {
  return { ...viewEvent(row), user: row.username };
}

function viewEvent({ id, event, metadata, created_at }: AuditEventRow) {
  return { id, event, metadata, created_at: zonedTime(created_at) };
}
