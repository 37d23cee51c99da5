import type { BadgeQuery } from "../api/badges.ts";
import type { BuildStatusName, EvaluationStatusName } from "../api/status.ts";
import { type BadgeEvaluation, findBadgeEvaluation, findEntryPointStatus } from "../db/badges.ts";
import type { Actor } from "../domain/actor.ts";
import { type BadgeState, renderBadge } from "../domain/badge.ts";
import { buildStatusName, evaluationStatusName } from "../domain/states.ts";
import { toHex, utf8 } from "../lib/bytes.ts";
import { requireProject } from "./access.ts";
import type { ServiceDeps } from "./deps.ts";
import type { ProjectName } from "./projects.ts";
import { requireAttribute } from "./projects-metrics.ts";

export interface Badge {
  readonly svg: string;
  /** Of these very bytes. */
  readonly etag: string;
  /** Everybody may see it. */
  readonly public: boolean;
}

/** How the project's last evaluation stands, or one entry point in it. An entry point that it lacks is `unknown`. */
export async function drawBadge(
  deps: Pick<ServiceDeps, "db">,
  actor: Actor,
  name: ProjectName,
  { style, label, eval: attribute }: BadgeQuery,
): Promise<Badge> {
  const { project, organization } = await requireProject(deps, actor, name, "read");
  const evaluation = await findBadgeEvaluation(deps.db, project.id);
  const state = await stateOf(deps, evaluation, attribute);
  const svg = renderBadge({ label, state, style });
  const digest = await crypto.subtle.digest("SHA-256", utf8(svg));
  const etag = `"${toHex(new Uint8Array(digest)).slice(0, 32)}"`;
  return { svg, etag, public: organization.public };
}

const EVALUATION_STATES: Readonly<Record<EvaluationStatusName, BadgeState>> = {
  Queued: "queued",
  Fetching: "fetching",
  EvaluatingFlake: "evaluating",
  EvaluatingDerivation: "evaluating",
  Building: "building",
  Waiting: "waiting",
  Completed: "passing",
  Failed: "failing",
  Aborted: "aborted",
};

const BUILD_STATES: Readonly<Record<BuildStatusName, BadgeState>> = {
  Created: "queued",
  Queued: "queued",
  Building: "building",
  Completed: "passing",
  Substituted: "passing",
  FailedPermanent: "failing",
  FailedTimeout: "failing",
  DependencyFailed: "failing",
  // It is tried again.
  FailedTransient: "queued",
  Aborted: "aborted",
};

async function stateOf(
  { db }: Pick<ServiceDeps, "db">,
  evaluation: BadgeEvaluation | undefined,
  attribute: string | undefined,
): Promise<BadgeState> {
  if (attribute === undefined) return evaluation ? stateOfEvaluation(evaluation) : "unknown";
  const path = requireAttribute(attribute);
  const status = evaluation && (await findEntryPointStatus(db, evaluation.id, path));
  return status === undefined ? "unknown" : BUILD_STATES[buildStatusName(status)];
}

function stateOfEvaluation({ status, built }: BadgeEvaluation): BadgeState {
  const state = EVALUATION_STATES[evaluationStatusName(status)];
  return state === "failing" && built > 0 ? "partial" : state;
}
