import { listLatestSuccesses } from "../db/latest-successes.ts";
import { findOrganizationWithRole } from "../db/organizations.ts";
import { findProject } from "../db/projects.ts";
import { isSlug } from "../domain/names.ts";
import type { ServiceDeps } from "./deps.ts";
import type { ProjectName } from "./projects.ts";
import { requireAttribute } from "./projects-metrics.ts";

/**
 * The newest build of the project's entry point that succeeded, as the API names builds; null where there is none. Says
 * nothing of who may see it: that is for whoever reads the build.
 */
export async function findLatestBuild(
  { db }: Pick<ServiceDeps, "db">,
  { organization, project: name }: ProjectName,
  attribute: string,
): Promise<string | null> {
  const path = requireAttribute(attribute);
  const named = isSlug(organization) && isSlug(name);
  const owner = named ? await findOrganizationWithRole(db, { name: organization }, null) : undefined;
  const project = owner && (await findProject(db, owner.id, name));
  if (!project) return null;
  const [latest] = await listLatestSuccesses(db, project.id, { attribute: path, limit: 1 });
  return latest?.link_id ?? null;
}
