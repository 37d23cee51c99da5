import type { Transaction } from "kysely";
import { REQUEST_PROJECT } from "../db/build-requests-project.ts";
import { countActions } from "../db/project-actions.ts";
import { moveProject } from "../db/projects.ts";
import { listActiveEvaluations, lockProjectToEvaluate } from "../db/projects-evaluations.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { allowsOrganization } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { type OrganizationAccess, type ProjectAccess, requireOrganization, requireProject } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import { nameTaken, type ProjectName } from "./projects.ts";
import type { ProjectDeps } from "./projects-deps.ts";

/**
 * Gives a project to another organization, with its settings and what is known of its evaluations. What they built
 * stays where it is: in caches of the organization that built it. Throws `conflict` while the project is evaluated.
 */
export async function transferProject(
  deps: ProjectDeps,
  actor: Actor,
  name: ProjectName,
  organization: string,
): Promise<string> {
  const access = await requireProject(deps, actor, name, "member", { unmanaged: true });
  requireMayGive(access, actor);
  if (access.project.name === REQUEST_PROJECT) {
    throw new DomainError("bad_request", "This project is made of what the organization's members send: it stays");
  }
  const target = await requireOrganization(deps, actor, organization, "createProject", { unmanaged: true });
  if (target.organization.id === access.organization.id) {
    throw new DomainError("bad_request", "organization: the project belongs to it already");
  }
  await inTransaction(deps.db, (trx) => move(trx, actor, { access, target }), deps).catch(nameTaken);
  return target.organization.name;
}

/** Whoever may edit it, or made it. Who made it and has no right to change anything here any more does not count. */
function requireMayGive({ project, mask }: ProjectAccess, actor: Actor): void {
  if (allowsOrganization(mask, "editProject")) return;
  // A key without the permission does not get it from its owner.
  if (actor.key === null && project.created_by === requireUser(actor).id) return;
  throw new DomainError(
    "forbidden",
    "This needs the permission `editProject` in this organization: ask an admin for it, or who made the project",
  );
}

async function move(
  trx: Transaction<Database>,
  actor: Actor,
  { access, target }: { readonly access: ProjectAccess; readonly target: OrganizationAccess },
): Promise<void> {
  const { project, organization } = access;
  const locked = await lockProjectToEvaluate(trx, project.id);
  if (locked?.organization_id !== organization.id) throw new DomainError("not_found", "Project not found");
  const [active] = await listActiveEvaluations(trx, project.id, 1);
  if (active) {
    throw new DomainError("conflict", `Evaluation ${active.id} of the project goes on: wait for its end, or abort it`);
  }
  if (!allowsOrganization(access.mask, "manageActions") && (await countActions(trx, project.id)) > 0) {
    // Where it goes to, whoever gives it may see and redirect them.
    throw new DomainError("forbidden", "The project has actions, which hold secrets: this needs `manageActions` too");
  }
  await moveProject(trx, project.id, target.organization.id);
  const metadata = { project: project.name, from: organization.name, to: target.organization.name };
  const record = { ...auditAuthor(actor), event: "project.transfer", metadata } as const;
  await recordAudit(trx, { ...record, organizationId: organization.id });
  await recordAudit(trx, { ...record, organizationId: target.organization.id });
}
