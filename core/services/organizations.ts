import type {
  ChangeOrganizationBody,
  CreateOrganizationBody,
  OrganizationBase,
  OrganizationDetail,
  OrganizationListItem,
} from "../api/organizations.ts";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { naiveTime } from "../api/times.ts";
import { insertCache } from "../db/caches.ts";
import {
  countOrganizationsOfMember,
  countPublicOrganizations,
  insertOrganization,
  listOrganizationsOfMember,
  listPublicOrganizations,
  type OrganizationChanges,
  type OrganizationView,
  organizationExists,
  updateOrganization,
} from "../db/organizations.ts";
import { insertMemberOf } from "../db/realm-members.ts";
import { ORGANIZATION_TABLES } from "../db/realms.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { isAddressableSlug, requireAddressableSlug, requireDisplayName } from "../domain/names.ts";
import { allowsOrganization, ORGANIZATION_ROLE } from "../domain/permissions.ts";
import { serverName } from "../domain/server-name.ts";
import { DomainError } from "../errors.ts";
import { utf8 } from "../lib/bytes.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireOrganization } from "./access.ts";
import { type AuditRecord, auditAuthor, recordAudit } from "./audit.ts";
import { makeCacheKey } from "./cache-key.ts";
import { requireCreator } from "./creation-gate.ts";
import type { ServiceDeps } from "./deps.ts";
import { generateSshKey } from "./ssh-key.ts";

const SSH_SECRET = { table: "organization", column: "ssh_secret_key" };

export async function listOrganizations(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  query: PageQuery,
): Promise<Page<OrganizationListItem>> {
  const user = requireUser(actor);
  const { key } = actor;
  // Through a key that cannot view organizations, or is for a cache, the user has none.
  if (key && (key.cacheId || !allowsOrganization(key.permissions, "viewOrg"))) return { items: [], total: 0, ...query };
  const scope = { userId: user.id, organizationId: key?.organizationId ?? null };
  const rows = await listOrganizationsOfMember(db, scope, pageWindow(query));
  const items = rows.map((row) => ({
    ...viewOrganization(row),
    running_evaluations: row.running_evaluations,
    role: row.role_name,
  }));
  return { items, total: await countOrganizationsOfMember(db, scope), ...query };
}

export async function listAllPublicOrganizations(
  { db }: Pick<ServiceDeps, "db">,
  query: PageQuery,
): Promise<Page<OrganizationBase>> {
  const items = (await listPublicOrganizations(db, pageWindow(query))).map(viewOrganization);
  return { items, total: await countPublicOrganizations(db), ...query };
}

/** False also for what no organization may be called. */
export async function isOrganizationNameFree(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<boolean> {
  requireUser(actor);
  return isAddressableSlug(name) && !(await organizationExists(db, name));
}

export async function getOrganization(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<OrganizationDetail> {
  const { organization, roleName } = await requireOrganization(deps, actor, name, "read");
  return { ...viewOrganization(organization), github_app_available: false, role: roleName };
}

/** Its id. It comes with an SSH key, an internal store for its builds' sources, and its creator as Admin. */
export async function createOrganization(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "secrets" | "settings">,
  actor: Actor,
  body: CreateOrganizationBody,
): Promise<string> {
  const { db, clock, random, secrets, settings } = deps;
  const creator = requireCreator(actor, settings.createOrganization, "organizations");
  const name = requireAddressableSlug(body.name, "name");
  const id = uuidV7(clock.now(), random);
  const cacheId = uuidV7(clock.now(), random);
  const sshKey = await generateSshKey(keyComment(settings.serveUrl, name));
  const organization = {
    id,
    name,
    display_name: requireDisplayName(body.display_name, "display_name"),
    description: body.description,
    public: body.public,
    hide_build_requests: body.hide_build_requests,
    ssh_public_key: sshKey.publicKey,
    ssh_secret_key: await secrets.seal({ ...SSH_SECRET, id }, utf8(sshKey.secretKey)),
    created_by: creator.id,
  };
  const internalStore = {
    id: cacheId,
    kind: 1,
    organization_id: id,
    display_name: "Internal store",
    description: "",
    created_by: creator.id,
    ...(await makeCacheKey(deps, cacheId, `${name}-internal`)),
  };
  await inTransaction(db, async (trx) => {
    await insertOrganization(trx, organization);
    await insertCache(trx, internalStore);
    const realm = { tables: ORGANIZATION_TABLES, id };
    await insertMemberOf(trx, realm, { userId: creator.id, roleId: ORGANIZATION_ROLE.Admin });
    const metadata = { organization: name, public: body.public };
    await recordAudit(trx, { ...auditAuthor(actor), event: "organization.create", organizationId: id, metadata });
  }).catch(nameTaken);
  return id;
}

/** Its id. */
export async function changeOrganization(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
  body: ChangeOrganizationBody,
): Promise<string> {
  const { organization } = await requireOrganization(deps, actor, name, "manageOrgSettings", { unmanaged: true });
  const changes: OrganizationChanges = {};
  if (body.name !== undefined) changes.name = requireAddressableSlug(body.name, "name");
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.description !== undefined) changes.description = body.description;
  if (body.hide_build_requests !== undefined) changes.hide_build_requests = body.hide_build_requests;
  await inTransaction(deps.db, async (trx) => {
    await updateOrganization(trx, organization.id, changes);
    const changed = Object.keys(changes);
    const metadata = { organization: organization.name, changed, ...(changes.name && { name: changes.name }) };
    await recordAudit(trx, { ...auditAuthor(actor), ...updated(organization), metadata });
  }).catch(nameTaken);
  return organization.id;
}

export async function setOrganizationPublic(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
  isPublic: boolean,
): Promise<void> {
  const { organization } = await requireOrganization(deps, actor, name, "manageOrgSettings", { unmanaged: true });
  await inTransaction(deps.db, async (trx) => {
    await updateOrganization(trx, organization.id, { public: isPublic });
    const metadata = { organization: organization.name, public: isPublic };
    await recordAudit(trx, { ...auditAuthor(actor), ...updated(organization), metadata });
  });
}

export async function getSshKey(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string): Promise<string> {
  return (await requireOrganization(deps, actor, name, "member")).organization.ssh_public_key;
}

/** The new public key. The old key stops working wherever it was allowed. */
export async function replaceSshKey(
  { db, secrets, settings }: Pick<ServiceDeps, "db" | "secrets" | "settings">,
  actor: Actor,
  name: string,
): Promise<string> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageSshKey", { unmanaged: true });
  const { publicKey, secretKey } = await generateSshKey(keyComment(settings.serveUrl, organization.name));
  const sealed = await secrets.seal({ ...SSH_SECRET, id: organization.id }, utf8(secretKey));
  await inTransaction(db, async (trx) => {
    await updateOrganization(trx, organization.id, { ssh_public_key: publicKey, ssh_secret_key: sealed });
    const event = "organization.ssh_key.replace";
    const metadata = { organization: organization.name, public_key: publicKey };
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id, metadata });
  });
  return publicKey;
}

function viewOrganization(row: OrganizationView): OrganizationBase {
  const { id, name, display_name, description, hide_build_requests, managed, created_by } = row;
  return {
    id,
    name,
    display_name,
    description,
    public_key: row.ssh_public_key,
    public: row.public,
    hide_build_requests,
    managed,
    created_by,
    created_at: naiveTime(row.created_at),
  };
}

function updated({ id }: OrganizationView): Pick<AuditRecord, "event" | "organizationId"> {
  return { event: "organization.update", organizationId: id };
}

function keyComment(serveUrl: string, name: string): string {
  return `${serverName(serveUrl)}-${name}`;
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "organization_name_key") throw error;
  throw new DomainError("already_exists", "name: an organization of this name exists already");
}
