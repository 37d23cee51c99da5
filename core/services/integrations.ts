import type {
  ChangeIntegrationBody,
  CreateIntegrationBody,
  IntegrationSummaryView,
  IntegrationView,
} from "../api/integrations.ts";
import { naiveTime } from "../api/times.ts";
import {
  countIntegrations,
  deleteIntegration as deleteIntegrationRow,
  findIntegration,
  type IntegrationChanges,
  insertIntegration,
  listIntegrations as listIntegrationRows,
  lockIntegration,
  updateIntegration,
} from "../db/integrations.ts";
import { lockRealm, ORGANIZATION_TABLES } from "../db/realms.ts";
import type { IntegrationRow } from "../db/tables/integration.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { Actor } from "../domain/actor.ts";
import { ForgeType, forgeTypeName, IntegrationKind, integrationKindName } from "../domain/integrations.ts";
import { requireDisplayName, requireSlug } from "../domain/names.ts";
import { DomainError } from "../errors.ts";
import { utf8 } from "../lib/bytes.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireOrganization } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { requireEndpointUrl } from "./integration-rules.ts";
import { parseAllowedIps } from "./key-rules.ts";
import type { SecretPlace } from "./secret-box.ts";
import { refuseVanished } from "./vanished.ts";

/** Of one organization, listed without pages. */
const INTEGRATIONS_MAX = 100;

type IntegrationDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "secrets">;

/** One integration of an organization. */
export interface IntegrationAddress {
  readonly organization: string;
  readonly id: string;
}

/** What a forge signs with, or what the server shows a forge, is sealed for its row. */
export function integrationPlace(id: string, column: "secret" | "access_token"): SecretPlace {
  return { table: "integration", column, id };
}

export async function listIntegrations(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<IntegrationView[]> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageIntegrations");
  return (await listIntegrationRows(db, organization.id)).map(viewIntegration);
}

/** For every member, who can name them in triggers. */
export async function listIntegrationSummaries(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: string,
): Promise<IntegrationSummaryView[]> {
  const { organization } = await requireOrganization({ db }, actor, name, "member");
  return (await listIntegrationRows(db, organization.id)).map(viewSummary);
}

export async function getIntegration(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  { organization: name, id }: IntegrationAddress,
): Promise<IntegrationView> {
  const { organization } = await requireOrganization({ db }, actor, name, "manageIntegrations");
  return viewIntegration(requireFound(await findIntegration(db, { id, organizationId: organization.id })));
}

/** Its id. */
export async function createIntegration(
  deps: IntegrationDeps,
  actor: Actor,
  name: string,
  body: CreateIntegrationBody,
): Promise<string> {
  const { organization } = await requireWritable(deps, actor, name);
  if (body.forge_type === "github") throw withoutApp();
  const id = uuidV7(deps.clock.now(), deps.random);
  const integration = {
    id,
    organization_id: organization.id,
    kind: IntegrationKind[body.kind],
    forge_type: ForgeType[body.forge_type],
    name: requireSlug(body.name, "name"),
    display_name: requireDisplayName(body.display_name ?? body.name, "display_name"),
    endpoint_url: requireEndpointUrl(body.endpoint_url),
    secret: await seal(deps, id, "secret", body.secret),
    access_token: await seal(deps, id, "access_token", body.access_token),
    allowed_ips: parseAllowedIps(body.allowed_ips ?? []),
    created_by: actor.user?.id ?? null,
  };
  await inTransaction(deps.db, async (trx) => {
    await lockRealm(trx, { tables: ORGANIZATION_TABLES, id: organization.id });
    if ((await countIntegrations(trx, organization.id)) >= INTEGRATIONS_MAX) {
      const limit = `${INTEGRATIONS_MAX} integrations, as many as are allowed`;
      throw new DomainError("conflict", `The organization has ${limit}: delete one first`);
    }
    await insertIntegration(trx, integration);
    const metadata = { integration: integration.name, kind: body.kind, forge_type: body.forge_type };
    const event = "integration.create";
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id, metadata });
  })
    .catch(nameTaken)
    .catch(refuseVanished);
  return id;
}

export async function changeIntegration(
  deps: IntegrationDeps,
  actor: Actor,
  { organization: name, id }: IntegrationAddress,
  body: ChangeIntegrationBody,
): Promise<IntegrationView> {
  const { organization } = await requireWritable(deps, actor, name);
  const which = { id, organizationId: organization.id };
  requireFound(await findIntegration(deps.db, which));
  const changes = await changesOf(deps, id, body);
  return await inTransaction(deps.db, async (trx) => {
    const row = requireUnmanaged(requireFound(await lockIntegration(trx, which)));
    if (row.forge_type === ForgeType.github) {
      throw new DomainError("bad_request", "This integration belongs to the GitHub App: change it at GitHub");
    }
    await updateIntegration(trx, id, changes);
    const metadata = { integration: row.name, changed: Object.keys(changes) };
    const event = "integration.update";
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id, metadata });
    return viewIntegration({ ...row, ...changes } as IntegrationRow);
  }).catch(nameTaken);
}

/** Of a GitHub App both rows go. */
export async function deleteIntegration(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  { organization: name, id }: IntegrationAddress,
): Promise<void> {
  const { organization } = await requireWritable(deps, actor, name);
  await inTransaction(deps.db, async (trx) => {
    const row = requireUnmanaged(requireFound(await lockIntegration(trx, { id, organizationId: organization.id })));
    await deleteIntegrationRow(trx, row);
    const metadata = { integration: row.name, kind: integrationKindName(row.kind) };
    const event = "integration.delete";
    await recordAudit(trx, { ...auditAuthor(actor), event, organizationId: organization.id, metadata });
  });
}

async function requireWritable(deps: Pick<ServiceDeps, "db">, actor: Actor, name: string) {
  return await requireOrganization(deps, actor, name, "manageIntegrations", { unmanaged: true });
}

async function changesOf(deps: IntegrationDeps, id: string, body: ChangeIntegrationBody): Promise<IntegrationChanges> {
  if (body.forge_type === "github") {
    throw new DomainError("bad_request", "forge_type: an integration of the GitHub App is made by itself, not changed");
  }
  const changes: IntegrationChanges = {};
  if (body.name !== undefined) changes.name = requireSlug(body.name, "name");
  if (body.display_name !== undefined) changes.display_name = requireDisplayName(body.display_name, "display_name");
  if (body.forge_type !== undefined) changes.forge_type = ForgeType[body.forge_type];
  if (body.endpoint_url !== undefined) changes.endpoint_url = requireEndpointUrl(body.endpoint_url);
  if (body.secret !== undefined) changes.secret = await seal(deps, id, "secret", body.secret);
  if (body.access_token !== undefined) changes.access_token = await seal(deps, id, "access_token", body.access_token);
  if (body.allowed_ips !== undefined) changes.allowed_ips = parseAllowedIps(body.allowed_ips);
  return changes;
}

/** Empty is none. */
async function seal(
  { secrets }: Pick<ServiceDeps, "secrets">,
  id: string,
  column: "secret" | "access_token",
  secret: string | null | undefined,
): Promise<Uint8Array | null> {
  return secret ? await secrets.seal(integrationPlace(id, column), utf8(secret)) : null;
}

function requireFound(row: IntegrationRow | undefined): IntegrationRow {
  if (row) return row;
  throw new DomainError("not_found", "Integration not found");
}

function requireUnmanaged(row: IntegrationRow): IntegrationRow {
  if (!row.managed) return row;
  throw new DomainError("forbidden", "This integration is declared in the server's configuration: change it there");
}

function withoutApp(): DomainError {
  return new DomainError(
    "bad_request",
    "forge_type: GitHub needs a GitHub App, and none is configured on this server: ask its operator",
  );
}

function viewSummary({ id, name, display_name, kind, forge_type }: IntegrationRow): IntegrationSummaryView {
  return { id, name, display_name, kind: integrationKindName(kind), forge_type: forgeTypeName(forge_type) };
}

function viewIntegration(row: IntegrationRow): IntegrationView {
  return {
    ...viewSummary(row),
    organization: row.organization_id,
    endpoint_url: row.endpoint_url,
    has_secret: row.secret !== null,
    has_access_token: row.access_token !== null,
    allowed_ips: row.allowed_ips,
    installation_id: row.installation_id,
    account_login: row.account_login,
    managed: row.managed,
    created_by: row.created_by,
    created_at: naiveTime(row.created_at),
  };
}

function nameTaken(error: unknown): never {
  if (uniqueViolation(error) !== "integration_name_key") throw error;
  throw new DomainError("already_exists", "name: there is an integration of this name and kind already");
}
