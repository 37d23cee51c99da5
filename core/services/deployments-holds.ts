import type { Transaction } from "kysely";
import { DEPLOYMENT_MODES, DEPLOYMENT_STEPS, type HoldBody, type HoldView } from "../api/hosts.ts";
import { type Page, type PageQuery, pageWindow } from "../api/pages.ts";
import { zonedTime } from "../api/times.ts";
import {
  countCommitHolds,
  type HoldRow,
  insertHold,
  listCommitHolds,
  type RunFields,
  releaseCommit,
  releaseHost,
  trimForgottenHolds,
  trimHolds,
} from "../db/deployments.ts";
import { findEvaluationOfBuild } from "../db/deployments-wanted.ts";
import { deleteHost, lockHost } from "../db/hosts.ts";
import type { Database, ProjectRow } from "../db/schema.ts";
import type { BuiltSystem, HostRow } from "../db/tables/deployment.ts";
import { inTransaction } from "../db/transaction.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { hasFailed } from "../domain/deployment.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { requireProject } from "./access.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import { type HostAddress, requireHostName } from "./deployments-wanted.ts";
import type { ServiceDeps } from "./deps.ts";
import { findNewestSystem } from "./hosts-report-system.ts";
import type { ProjectName } from "./projects.ts";

export type HoldDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">;

/** Nobody releases so many; of what is older, there are newer commits. */
const COMMIT_HOLDS_MAX = 200;
const HOST_HOLDS_MAX = 50;
/** Of hosts that somebody forgot; most of them never come back. */
const FORGOTTEN_HOLDS_MAX = 1_000;

/** Commits that are kept from hosts, the newest first. */
export async function listProjectHolds(
  { db }: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: ProjectName,
  query: PageQuery,
): Promise<Page<HoldView>> {
  const { project } = await requireProject({ db }, actor, name, "member");
  const rows = await listCommitHolds(db, project.id, pageWindow(query));
  return { items: rows.map(viewHold), total: await countCommitHolds(db, project.id), ...query };
}

function viewHold(row: HoldRow): HoldView {
  return {
    commit: row.commit_hash ?? "",
    evaluation_id: row.evaluation_id,
    order: row.ordinal,
    host: row.failed_host,
    held_by: row.held_by_name,
    reason: row.reason,
    since: zonedTime(row.created_at),
  };
}

export interface DeploymentAddress extends ProjectName {
  /** As the API names it. */
  readonly build: string;
}

/** Keeps the commit of a build's evaluation from all hosts that do not run it yet. */
export async function holdDeployment(
  deps: HoldDeps,
  actor: Actor,
  address: DeploymentAddress,
  { reason }: HoldBody,
): Promise<void> {
  const { project } = await requireProject(deps, actor, address, "triggerEvaluation");
  const { id: evaluationId, ordinal, commit_hash } = await requireEvaluationOf(deps, project.id, address.build);
  await inTransaction(
    deps.db,
    async (trx) => {
      await insertHold(trx, {
        id: uuidV7(deps.clock.now(), deps.random),
        project_id: project.id,
        store_path: null,
        commit_hash,
        evaluation_id: evaluationId,
        ordinal,
        failed_host: null,
        reason,
        held_by: requireUser(actor).id,
      });
      if ((await countCommitHolds(trx, project.id)) > 2 * COMMIT_HOLDS_MAX) {
        throw new DomainError("conflict", "The project holds too many commits: release some first");
      }
      await record(trx, actor, "deployment.hold", project, { commit: commit_hash });
    },
    deps,
  );
  deps.notifier.notify("deployment", project.id);
}

/** Lets hosts have the commit again. A host that it failed on is released by itself. */
export async function releaseDeployment(deps: HoldDeps, actor: Actor, address: DeploymentAddress): Promise<void> {
  const { project } = await requireProject(deps, actor, address, "triggerEvaluation");
  const { commit_hash } = await requireEvaluationOf(deps, project.id, address.build);
  await inTransaction(
    deps.db,
    async (trx) => {
      if ((await releaseCommit(trx, project.id, commit_hash)) === 0) return;
      await record(trx, actor, "deployment.release", project, { commit: commit_hash });
    },
    deps,
  );
  deps.notifier.notify("deployment", project.id);
}

/** Lets the host try again what failed on it; also one that was forgotten since. */
export async function releaseFailedHost(deps: HoldDeps, actor: Actor, address: HostAddress): Promise<void> {
  const { project } = await requireProject(deps, actor, address, "triggerEvaluation");
  const name = requireHostName(address.host);
  await inTransaction(
    deps.db,
    async (trx) => {
      const host = await lockHost(trx, project.id, name);
      if ((await releaseHost(trx, { projectId: project.id, host: name }, null)) > 0) {
        await record(trx, actor, "host.release", project, { host: name });
      } else if (!host) throw hostNotFound();
    },
    deps,
  );
  deps.notifier.notify("deployment", project.id);
}

/** With its history. It is known again by its next report. What failed on it is kept from it all the same. */
export async function forgetHost(deps: HoldDeps, actor: Actor, address: HostAddress): Promise<void> {
  const { project } = await requireProject(deps, actor, address, "editProject");
  const name = requireHostName(address.host);
  await inTransaction(
    deps.db,
    async (trx) => {
      const host = await lockHost(trx, project.id, name);
      if (!host) throw hostNotFound();
      await deleteHost(trx, host.id);
      await trimForgottenHolds(trx, project.id, FORGOTTEN_HOLDS_MAX);
      await record(trx, actor, "host.delete", project, { host: name });
    },
    deps,
  );
  deps.notifier.notify("deployment", project.id);
}

function hostNotFound(): DomainError {
  return new DomainError("not_found", "Host not found: it has never told of itself");
}

async function requireEvaluationOf({ db }: Pick<HoldDeps, "db">, projectId: string, buildId: string) {
  const evaluation = await findEvaluationOfBuild(db, projectId, buildId);
  if (!evaluation) throw new DomainError("not_found", "Build not found");
  return evaluation;
}

/**
 * Holds back what a run of a host brought, when it is bad: its system from the host itself, and its commit from the
 * others; also the newest commit of the deploy branch where that has come to the same system meanwhile. Answers whether
 * the run has failed so.
 */
export async function holdFailure(
  trx: Transaction<Database>,
  deps: Pick<HoldDeps, "clock" | "random">,
  { host, project, run }: { readonly host: HostRow; readonly project: ProjectRow; readonly run: RunFields },
): Promise<boolean> {
  const steps = run.steps.flatMap(({ step }) => DEPLOYMENT_STEPS[step] ?? []);
  // What was released meanwhile is not held anew by what comes late.
  if (run.failed || !hasFailed(steps, DEPLOYMENT_MODES[run.mode] ?? "dry-activate")) return run.failed;
  const { store_path, system } = run;
  const common = { project_id: project.id, failed_host: host.name, reason: run.reason, held_by: null };
  const hold = (of: BuiltSystem | null, storePath: string | null) =>
    insertHold(trx, {
      ...common,
      id: uuidV7(deps.clock.now(), deps.random),
      store_path: storePath,
      commit_hash: of?.commit ?? null,
      evaluation_id: of?.evaluation_id ?? null,
      ordinal: of?.order ?? null,
    });
  if (store_path !== null) await hold(system, store_path);
  if (store_path !== null && system !== null && project.deploy_hold) {
    await hold(system, null);
    const newest = await findNewestSystem(trx, { host, project, storePath: store_path });
    if (newest && newest.commit !== system.commit) await hold(newest, null);
  }
  const limits = { ofProjectMax: COMMIT_HOLDS_MAX, ofHostMax: HOST_HOLDS_MAX };
  await trimHolds(trx, { projectId: project.id, host: host.name }, limits);
  return true;
}

async function record(
  trx: Transaction<Database>,
  actor: Actor,
  event: "deployment.hold" | "deployment.release" | "host.release" | "host.delete",
  { name, organization_id: organizationId }: Pick<ProjectRow, "name" | "organization_id">,
  more: { readonly commit?: string; readonly host?: string },
): Promise<void> {
  await recordAudit(trx, { ...auditAuthor(actor), event, organizationId, metadata: { project: name, ...more } });
}
