import type { StateIntegration } from "../api/state.ts";
import {
  deleteManaged,
  insertManaged,
  listStateIntegrations,
  releaseManaged,
  updateManaged,
} from "../db/state-rows.ts";
import { ForgeType, IntegrationKind, integrationKindName } from "../domain/integrations.ts";
import { utf8 } from "../lib/bytes.ts";
import { requireEndpointUrl } from "./integration-rules.ts";
import { integrationPlace } from "./integrations.ts";
import { differences, isEmpty, type StateContext } from "./state-context.ts";
import { holds } from "./state-sealed.ts";
import { secretNames } from "./state-secrets.ts";

type Row = Awaited<ReturnType<typeof listStateIntegrations>>[number];
type SecretColumn = "secret" | "access_token";

/** Where forges call from is for people to set: the file does not say it. */
export async function reconcileIntegrations(context: StateContext): Promise<void> {
  const rows = await listStateIntegrations(context.trx, [...context.organizationIds.values()]);
  const known = new Map(rows.map((row) => [identity(row.organization_id, row.kind, row.name), row]));
  for (const entry of context.document.integrations) {
    const organizationId = context.organizationId(entry.organization);
    await putIntegration(context, entry, {
      organizationId,
      row: known.get(identity(organizationId, IntegrationKind[entry.kind], entry.name)),
    });
  }
}

export async function removeIntegrations(context: StateContext): Promise<void> {
  const { trx, document, options } = context;
  const declared = new Set(
    document.integrations.map(({ organization, kind, name }) => JSON.stringify([organization, kind, name])),
  );
  const leaving = (await listStateIntegrations(trx, [])).filter(
    (row) =>
      row.managed && !declared.has(JSON.stringify([row.organization_name, integrationKindName(row.kind), row.name])),
  );
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) await deleteManaged(trx, "integration", ids);
  else await releaseManaged(trx, "integration", ids);
  for (const { name, kind, organization_name } of leaving) {
    const what = `${integrationKindName(kind)} integration ${name} of ${organization_name}`;
    context.note(options.deleteUnlisted ? "deleted" : "released", what);
  }
}

async function putIntegration(
  context: StateContext,
  entry: StateIntegration,
  { organizationId, row }: { readonly organizationId: string; readonly row: Row | undefined },
): Promise<void> {
  const wanted = {
    forge_type: ForgeType[entry.forge_type],
    display_name: entry.display_name,
    endpoint_url: requireEndpointUrl(entry.endpoint_url),
    installation_id: entry.installation_id ?? null,
    account_login: entry.account_login ?? null,
  };
  const created_by = context.userId(entry.created_by);
  const id = row?.id ?? context.newId();
  const secrets = {
    ...(await secretColumn(context, { id, column: "secret", entry, sealed: row?.secret ?? null })),
    ...(await secretColumn(context, { id, column: "access_token", entry, sealed: row?.access_token ?? null })),
  };
  const what = `${entry.kind} integration ${entry.name} of ${entry.organization}`;
  if (!row) {
    const { name } = entry;
    const kind = IntegrationKind[entry.kind];
    const none = { secret: null, access_token: null };
    const columns = { id, organization_id: organizationId, kind, name, created_by, ...none, ...wanted, ...secrets };
    await insertManaged(context.trx, "integration", columns);
    return context.note("created", what);
  }
  const author = created_by === null ? {} : { created_by };
  const changes = { ...differences(row, { ...wanted, ...author, managed: true }), ...secrets };
  if (isEmpty(changes)) return;
  await updateManaged(context.trx, "integration", id, changes);
  context.note(row.managed ? "changed" : "taken over", what);
}

/** Nothing where it is so already: sealed anew, the same secret would look like another one. */
async function secretColumn(
  context: StateContext,
  {
    id,
    column,
    entry,
    sealed,
  }: {
    readonly id: string;
    readonly column: SecretColumn;
    readonly entry: StateIntegration;
    readonly sealed: Uint8Array | null;
  },
): Promise<Partial<Record<SecretColumn, Uint8Array | null>>> {
  const isSecret = column === "secret";
  const file = isSecret ? entry.secret_file : entry.access_token_file;
  const mayStay = isSecret ? entry.has_secret_file : entry.has_access_token_file;
  const text = context.secret(file, secretNames.integration(entry, isSecret ? "secret" : "token"));
  if (text === null) return mayStay || sealed === null ? {} : { [column]: null };
  const place = integrationPlace(id, column);
  return (await holds(context, place, sealed, text))
    ? {}
    : { [column]: await context.deps.secrets.seal(place, utf8(text)) };
}

function identity(organizationId: string, kind: number, name: string): string {
  return `${organizationId} ${kind} ${name}`;
}
