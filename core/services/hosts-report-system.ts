import type { Transaction } from "kysely";
import { findSystemOfRuns } from "../db/deployments.ts";
import { findBuiltSystem, findOfferedSystem } from "../db/deployments-wanted.ts";
import type { Database } from "../db/schema.ts";
import type { BuiltSystem, HostRow } from "../db/tables/deployment.ts";
import type { ProjectAccess } from "./access.ts";
import { findDeployBranch } from "./deployments-fleet.ts";

export interface SystemOfHost {
  readonly host: HostRow;
  readonly project: ProjectAccess["project"];
  /** Base name. */
  readonly storePath: string;
}

/**
 * Where a system that a host tells of was built: the build that the host was offered, else the newest on the deploy
 * branch, else what the host's own runs remember. Other branches and pull requests may have built the same, and say
 * nothing of why it is there.
 */
export async function findReportedSystem(
  trx: Transaction<Database>,
  { host, project, storePath }: SystemOfHost,
  offeredBuildId: string | null,
): Promise<BuiltSystem | null> {
  const sought = { projectId: project.id, host: host.name, storePath };
  const offered = offeredBuildId === null ? null : await findOfferedSystem(trx, sought, offeredBuildId);
  if (offered) return offered;
  const newest = await findNewestSystem(trx, { host, project, storePath });
  if (newest) return newest;
  if (storePath === host.running_path && host.running_system) return host.running_system;
  return await findSystemOfRuns(trx, host.id, storePath);
}

/** Where the deploy branch came to the host's system last. */
export async function findNewestSystem(
  trx: Transaction<Database>,
  { host, project, storePath }: SystemOfHost,
): Promise<BuiltSystem | null> {
  const branch = await findDeployBranch({ db: trx }, project);
  if (branch === null) return null;
  return await findBuiltSystem(trx, { projectId: project.id, host: host.name, storePath }, branch);
}
