import type { Transaction } from "kysely";
import type { Database } from "../db/schema.ts";
import { listExportedApiKeys, listExportedRoles, listExportedUsers, readSnapshot } from "../db/state-export.ts";
import type { Actor } from "../domain/actor.ts";
import { formatNix, type NixValue } from "../domain/nix-text.ts";
import { cachePermissionsIn, organizationPermissionsIn } from "../domain/permissions.ts";
import { requireSuperuser } from "./admin.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { exportCaches } from "./state-export-caches.ts";
import { distinctKeys, type ExportedEntry } from "./state-export-keys.ts";
import { exportOrganizations } from "./state-export-organizations.ts";
import { exportProjects } from "./state-export-projects.ts";
import { exportWorkers } from "./state-export-workers.ts";

const HEADER = `# What this server holds, as services.gradient.state wants it. Secrets are not in it:
# a file that is null leaves the secret that the server has as it is.
`;

/** A state document that would change nothing here, but that all of it would be declared. For superusers. */
export async function exportState(deps: Pick<ServiceDeps, "db">, actor: Actor): Promise<NixValue> {
  requireSuperuser(actor);
  const document = await readSnapshot(deps.db, readDocument);
  await recordAudit(deps.db, { ...auditAuthor(actor), event: "admin.state.export" });
  return document;
}

/** The same as a Nix expression. */
export async function exportStateAsNix(deps: Pick<ServiceDeps, "db">, actor: Actor): Promise<string> {
  return `${HEADER}${formatNix(await exportState(deps, actor))}\n`;
}

async function readDocument(trx: Transaction<Database>): Promise<NixValue> {
  const users = await listExportedUsers(trx);
  const names = new Map(users.map(({ id, username }) => [id, username]));
  return {
    users: distinctKeys(
      users.map(({ username, name, email, email_verified, superuser, has_password }) => ({
        keys: [username],
        value: {
          username,
          name,
          email,
          password_file: null,
          has_password_file: has_password,
          email_verified,
          superuser,
        },
      })),
    ),
    ...(await exportOrganizations(trx, names)),
    roles: distinctKeys(await exportRoles(trx)),
    projects: distinctKeys(await exportProjects(trx, names)),
    caches: distinctKeys(await exportCaches(trx, names)),
    api_keys: distinctKeys(await exportApiKeys(trx)),
    workers: distinctKeys(await exportWorkers(trx, names)),
  };
}

async function exportRoles(trx: Transaction<Database>): Promise<ExportedEntry[]> {
  return (await listExportedRoles(trx)).map(({ name, organization, permissions, oidc_groups, scim_groups }) => ({
    keys: [name, `${organization}-${name}`],
    value: {
      name,
      organization,
      permissions: organizationPermissionsIn(permissions),
      oidc_group: oidc_groups,
      scim_group: scim_groups,
    },
  }));
}

async function exportApiKeys(trx: Transaction<Database>): Promise<ExportedEntry[]> {
  return (await listExportedApiKeys(trx)).map((key) => ({
    keys: [key.name, `${key.username}-${key.name}`],
    value: {
      name: key.name,
      owned_by: key.username,
      key_file: null,
      permissions:
        key.cache === null ? organizationPermissionsIn(key.permissions) : cachePermissionsIn(key.permissions),
      organization: key.organization,
      cache: key.cache,
      allowed_ips: key.allowed_ips,
      expires_at: key.expires_at?.toISOString() ?? null,
    },
  }));
}
