import type { Transaction } from "kysely";
import type { Database } from "../db/schema.ts";
import { listExportedIntegrations, listExportedMembers, listExportedOrganizations } from "../db/state-export.ts";
import { forgeTypeName, integrationKindName } from "../domain/integrations.ts";
import type { NixValue } from "../domain/nix-text.ts";
import { distinctKeys } from "./state-export-keys.ts";

/** `names`: of users, by id. */
export async function exportOrganizations(
  trx: Transaction<Database>,
  names: ReadonlyMap<string, string>,
): Promise<{ readonly organizations: NixValue; readonly integrations: NixValue }> {
  const members = Map.groupBy(await listExportedMembers(trx), ({ realm_id }) => realm_id);
  const organizations = (await listExportedOrganizations(trx)).map((row) => {
    const own = members.get(row.id) ?? [];
    const value = {
      name: row.name,
      display_name: row.display_name,
      description: row.description,
      id: row.id,
      private_key_file: null,
      public: row.public,
      hide_build_requests: row.hide_build_requests,
      // Where nobody is a member, the file would make its creator one.
      created_by: own.length > 0 ? nameOf(names, row.created_by) : null,
      members: own.map(({ username: user, role }) => ({ user, role })),
    };
    return { keys: [row.name] as [string], value };
  });
  const integrations = (await listExportedIntegrations(trx)).map((row) => {
    const kind = integrationKindName(row.kind);
    const value = {
      name: row.name,
      organization: row.organization,
      display_name: row.display_name,
      kind,
      forge_type: forgeTypeName(row.forge_type),
      secret_file: null,
      has_secret_file: row.has_secret,
      access_token_file: null,
      has_access_token_file: row.has_token,
      endpoint_url: row.endpoint_url,
      account_login: row.account_login,
      installation_id: row.installation_id,
      created_by: nameOf(names, row.created_by),
    };
    return { keys: [row.name, `${row.organization}-${row.name}-${kind}`] as [string, string], value };
  });
  return { organizations: distinctKeys(organizations), integrations: distinctKeys(integrations) };
}

/** Null where nobody is known any more. */
export function nameOf(names: ReadonlyMap<string, string>, id: string | null): string | null {
  return id === null ? null : (names.get(id) ?? null);
}
