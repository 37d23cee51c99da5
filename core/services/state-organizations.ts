import type { StateOrganization } from "../api/state.ts";
import { insertCache } from "../db/caches.ts";
import { buryOrganization, deleteOrganization, isLarge } from "../db/organization-deletion.ts";
import { releaseMembersOf } from "../db/state-members.ts";
import {
  insertManaged,
  lockStateOrganizations,
  lockStateProjects,
  releaseManaged,
  updateManaged,
} from "../db/state-rows.ts";
import { listRegisteredWorkerIds } from "../db/worker-registrations.ts";
import { serverName } from "../domain/server-name.ts";
import { utf8 } from "../lib/bytes.ts";
import { makeCacheKey } from "./cache-key.ts";
import { generateSshKey } from "./ssh-key.ts";
import { differences, isEmpty, type StateContext, warnOfMembers } from "./state-context.ts";
import { stopProjects } from "./state-projects.ts";
import { secretNames } from "./state-secrets.ts";
import { publicSshKey } from "./state-ssh-key.ts";

/** The rows of a larger one go in the background: the server would start too late. */
const ROWS_AT_ONCE_MAX = 5_000;

type OrganizationRow = Awaited<ReturnType<typeof lockStateOrganizations>>[number];

/** An organization that has an id in the file may be renamed there: its id says that it is the same one. */
export async function reconcileOrganizations(context: StateContext): Promise<void> {
  const { trx, document } = context;
  const rows = await lockStateOrganizations(trx, {
    names: document.organizations.map(({ name }) => name),
    ids: document.organizations.flatMap(({ id }) => id ?? []),
  });
  const byName = new Map(rows.map((row) => [row.name, row]));
  const byId = new Map(rows.map((row) => [row.id, row]));
  const declared = new Set(document.organizations.map(({ name }) => name));
  for (const organization of document.organizations) {
    const sameName = byName.get(organization.name);
    const sameId = organization.id == null ? undefined : byId.get(organization.id);
    const path = ["organizations", organization.key, "id"];
    if (sameName && organization.id != null && sameName.id !== organization.id) {
      context.report(path, `is not that of the organization ${organization.name}, which has the id ${sameName.id}`);
    } else if (!sameName && sameId?.deleted_at) {
      context.report(path, "belongs to an organization that is being deleted: start again when that is done");
    } else if (!sameName && sameId && (!sameId.managed || declared.has(sameId.name))) {
      context.report(path, `belongs to the organization ${sameId.name}`);
    } else await putOrganization(context, organization, sameName ?? sameId);
  }
}

/** With everything in them: that comes last, so that whatever is declared elsewhere now has left them. */
export async function removeOrganizations(context: StateContext): Promise<void> {
  const { trx, document, options } = context;
  const declared = new Set(document.organizations.map(({ name }) => name));
  const rows = await lockStateOrganizations(trx, { names: [], ids: [] });
  const leaving = rows.filter((row) => row.managed && !declared.has(row.name));
  const ids = leaving.map(({ id }) => id);
  if (options.deleteUnlisted) {
    const projects = (await lockStateProjects(trx, ids)).filter((row) => ids.includes(row.organization_id));
    await stopProjects(context, projects);
    for (const id of ids) {
      for (const worker of await listRegisteredWorkerIds(trx, id)) context.staleRegistrations.add(`${id}/${worker}`);
      context.wakeups.work(id);
    }
    for (const id of ids) {
      if (await isLarge(trx, id, ROWS_AT_ONCE_MAX)) await buryOrganization(trx, id);
      else await deleteOrganization(trx, id);
    }
  } else {
    await releaseManaged(trx, "organization", ids);
    for (const id of ids) await releaseMembersOf(trx, "organization", id);
  }
  for (const { name } of leaving) {
    context.note(options.deleteUnlisted ? "deleted" : "released", `organization ${name}`);
  }
}

async function putOrganization(
  context: StateContext,
  organization: StateOrganization,
  row: OrganizationRow | undefined,
): Promise<void> {
  const { name, display_name, description, hide_build_requests } = organization;
  const wanted = { name, display_name, description, public: organization.public, hide_build_requests };
  const created_by = context.userId(organization.created_by);
  if (!row) return await makeOrganization(context, organization, { ...wanted, created_by });
  context.organizationIds.set(name, row.id);
  const author = created_by === null ? {} : { created_by };
  const changes = {
    ...differences(row, { ...wanted, ...author, managed: true }),
    ...(await changedSshKey(context, organization, row)),
  };
  if (isEmpty(changes)) return;
  await updateManaged(context.trx, "organization", row.id, changes);
  if (!row.managed) {
    if (organization.members.length === 0) warnOfMembers(context, `organization ${name}`);
    return context.note("taken over", `organization ${name}`);
  }
  const renamed = row.name !== name;
  context.note(renamed ? "renamed" : "changed", `organization ${renamed ? `${row.name}, now ${name}` : name}`);
}

async function makeOrganization(
  context: StateContext,
  organization: StateOrganization,
  columns: Pick<StateOrganization, "name" | "display_name" | "description" | "public" | "hide_build_requests"> & {
    readonly created_by: string | null;
  },
): Promise<void> {
  const { trx, deps } = context;
  const id = organization.id ?? context.newId();
  const cacheId = context.newId();
  const declaredKey = await sealedSshKey(context, organization, id);
  const ssh = declaredKey ?? (await freshSshKey(context, organization.name, id));
  await insertManaged(trx, "organization", { id, ...columns, ...ssh });
  await insertCache(trx, {
    id: cacheId,
    kind: 1,
    organization_id: id,
    display_name: "Internal store",
    description: "",
    created_by: columns.created_by,
    ...(await makeCacheKey(deps, cacheId, `${organization.name}-internal`)),
  });
  context.organizationIds.set(organization.name, id);
  context.note("created", `organization ${organization.name}`);
}

/** Nothing where the file names no key, or the one that is there: sealed anew, it would look like another one. */
async function changedSshKey(context: StateContext, organization: StateOrganization, row: OrganizationRow) {
  const sealed = await sealedSshKey(context, organization, row.id);
  if (!sealed || sameKey(sealed.ssh_public_key, row.ssh_public_key)) return {};
  return sealed;
}

async function sealedSshKey(context: StateContext, { name, private_key_file }: StateOrganization, id: string) {
  const text = context.secret(private_key_file, secretNames.sshKey(name));
  if (text === null) return null;
  return await seal(context, id, `${publicSshKey(text)} ${comment(context, name)}`, `${text}\n`);
}

async function freshSshKey(context: StateContext, name: string, id: string) {
  const { publicKey, secretKey } = await generateSshKey(comment(context, name));
  return await seal(context, id, publicKey, secretKey);
}

async function seal({ deps }: StateContext, id: string, publicKey: string, secretKey: string) {
  const ssh_secret_key = await deps.secrets.seal(
    { table: "organization", column: "ssh_secret_key", id },
    utf8(secretKey),
  );
  return { ssh_public_key: publicKey, ssh_secret_key };
}

/** Type and key; what is called so does not matter. */
function sameKey(a: string, b: string): boolean {
  const key = (text: string) => text.split(" ").slice(0, 2).join(" ");
  return key(a) === key(b);
}

function comment({ deps }: StateContext, name: string): string {
  return `${serverName(deps.settings.serveUrl)}-${name}`;
}
