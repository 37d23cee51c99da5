import { type AttemptOfLink, type BuildLink, listFailedDependencies } from "../db/builds-read.ts";
import { findEvaluationMessage } from "../db/evaluations-read.ts";
import { BuildStatus } from "../domain/states.ts";
import { derivedUuid } from "../lib/ids.ts";
import type { ServiceDeps } from "./deps.ts";

const NAMES_MAX = 3;

/**
 * Why a build failed, for people: what its attempt said; of one that no worker ever got, what the evaluation was told
 * when it named it; of one that was given up, which of its inputs failed. Null while it has not failed.
 */
export async function explainFailure(
  { db }: Pick<ServiceDeps, "db">,
  link: BuildLink,
  attempt: AttemptOfLink | undefined,
): Promise<string | null> {
  switch (link.status) {
    case BuildStatus.DependencyFailed: {
      const failed = await listFailedDependencies(db, link, NAMES_MAX + 1);
      if (failed.length === 0) return null;
      const names = failed.slice(0, NAMES_MAX).map(({ name }) => name);
      return `it needs ${names.join(", ")}${failed.length > NAMES_MAX ? " and others" : ""}, which failed`;
    }
    case BuildStatus.FailedPermanent:
    case BuildStatus.FailedTransient:
    case BuildStatus.FailedTimeout:
      return attempt?.message ?? (await refusalOf(db, link));
    default:
      return null;
  }
}

/** What was said of the derivation when it came: `ingestBatch` gives that message this id. */
async function refusalOf(db: ServiceDeps["db"], link: BuildLink): Promise<string | null> {
  const message = await findEvaluationMessage(db, await derivedUuid(link.evaluation_id, link.drv_path));
  const prefix = `${link.drv_path}: `;
  return message?.startsWith(prefix) ? message.slice(prefix.length) : (message ?? null);
}
