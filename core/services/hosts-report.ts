import type { Transaction } from "kysely";
import type { HostReportAnswer, HostReportBody } from "../api/hosts.ts";
import { readDatabaseTime } from "../db/builds-read.ts";
import { isHostNamed } from "../db/deployments-wanted.ts";
import { holdPresentPaths, listLendingCaches } from "../db/held-paths.ts";
import { countHosts, insertHost, lockHost } from "../db/hosts.ts";
import type { Database } from "../db/schema.ts";
import { listSubscriptions } from "../db/subscriptions.ts";
import type { HostRow } from "../db/tables/deployment.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import type { RetentionSettings } from "../domain/retention.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import { type ProjectAccess, requireProject } from "./access.ts";
import { findDeployBranch } from "./deployments-fleet.ts";
import { type HostAddress, requireHostName } from "./deployments-wanted.ts";
import type { ServiceDeps } from "./deps.ts";
import { applyReport, type ReportedPaths } from "./hosts-report-apply.ts";

export type HostReportDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier"> & {
  readonly retention: RetentionSettings;
};

/** A fleet of one repository; more have none. */
export const HOSTS_MAX = 1_000;
/**
 * Takes down what a host says of itself. The same report changes nothing when it comes again, and an older one never
 * takes the place of a newer. Throws `not_found` for a host that no evaluation of the deploy branch names, and
 * `conflict` when the project has too many.
 */
export async function reportDeployment(
  deps: HostReportDeps,
  actor: Actor,
  address: HostAddress,
  body: HostReportBody,
): Promise<HostReportAnswer> {
  const access = await requireProject(deps, actor, address, "reportDeployments");
  const { project, organization } = access;
  const name = requireHostName(address.host);
  const paths = baseNamesOf(body);
  const accepted = await inTransaction(
    deps.db,
    async (trx) => {
      await holdPaths(trx, organization.id, paths);
      const now = await readDatabaseTime(trx);
      const host = await lockOrAddHost(trx, deps, access, { name, now });
      return await applyReport(trx, deps, { host, project, body, paths, now, keptUntil: keptUntil(deps, now) });
    },
    deps,
  );
  if (accepted) deps.notifier.notify("deployment", project.id);
  return { accepted };
}

function baseNamesOf({ store_path, running_path, booted_path }: HostReportBody): ReportedPaths {
  const baseName = (path: string | null) => path && storePathBaseName(path as StorePath);
  return { wanted: baseName(store_path), running: baseName(running_path), booted: baseName(booted_path) };
}

/** What the host names is a root from now on: no sweep takes it at this moment. */
async function holdPaths(trx: Transaction<Database>, organizationId: string, paths: ReportedPaths): Promise<void> {
  const own = (await listSubscriptions(trx, organizationId)).map(({ id }) => id);
  const cacheIds = await listLendingCaches(trx, own);
  const hashes = Object.values(paths).flatMap((path: string | null) => (path === null ? [] : path.slice(0, 32)));
  await holdPresentPaths(trx, { cacheIds, hashes });
}

async function lockOrAddHost(
  trx: Transaction<Database>,
  deps: HostReportDeps,
  { project }: ProjectAccess,
  { name, now }: { readonly name: string; readonly now: Date },
): Promise<HostRow> {
  const known = await lockHost(trx, project.id, name);
  if (known) return known;
  const branch = await findDeployBranch({ db: trx }, project);
  if (branch === null || !(await isHostNamed(trx, { projectId: project.id, branch, host: name }))) {
    throw new DomainError("not_found", "Host not found: no evaluation of the deploy branch has a host of this name");
  }
  if ((await countHosts(trx, project.id)) >= HOSTS_MAX) {
    throw new DomainError("conflict", `A project has at most ${HOSTS_MAX} hosts: forget one first`);
  }
  const id = uuidV7(deps.clock.now(), deps.random);
  await insertHost(trx, { id, project_id: project.id, name, kept_until: keptUntil(deps, now) });
  const added = await lockHost(trx, project.id, name);
  if (!added) throw new DomainError("conflict", "The host was forgotten at this moment: send the report again");
  return added;
}

function keptUntil({ retention }: HostReportDeps, now: Date): Date {
  return new Date(now.getTime() + retention.silentHostMs);
}
