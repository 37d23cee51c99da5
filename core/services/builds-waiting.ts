import type { BuildWaiting } from "../api/builds.ts";
import { naiveTime } from "../api/times.ts";
import type { BuildStanding } from "../db/build-waiting.ts";
import { listConnectedWorkers } from "../db/connected-workers.ts";
import { isDraining } from "../db/scheduler-state.ts";
import { explainBuilding, type Fleet, unmetNeeds } from "../domain/scheduling/waiting.ts";
import { BuildStatus } from "../domain/states.ts";
import type { ServiceDeps } from "./deps.ts";

/** Why the build has not begun, by the same predicate as dispatch; null for one that does not wait. */
export async function explainBuild(
  { db }: Pick<ServiceDeps, "db">,
  build: BuildStanding,
): Promise<BuildWaiting | null> {
  switch (build.status) {
    case BuildStatus.Created:
      return { kind: "dependencies", count: build.pendingDependencies };
    case BuildStatus.FailedTransient:
      return build.retryAt && { kind: "retry", at: naiveTime(build.retryAt) };
    case BuildStatus.Queued:
      return explainReady(build, { workers: await listConnectedWorkers(db), draining: await isDraining(db) });
    default:
      return null;
  }
}

function explainReady(build: BuildStanding, fleet: Fleet): BuildWaiting {
  const { organizationId, system, requiredFeatures, ahead } = build;
  if (unmetNeeds([build], fleet).length === 0) return { kind: "place", ahead };
  const unmet = { architecture: system, required_features: requiredFeatures, build_count: 1 };
  const reason = explainBuilding(organizationId, [unmet], fleet);
  if (reason?.kind !== "workers") return { kind: "draining" };
  const { connected_workers, available_architectures } = reason;
  const need = { architecture: system, required_features: requiredFeatures };
  return { kind: "workers", ...need, connected_workers, available_architectures };
}
