import type { EstimateView } from "../api/estimates.ts";
import { listConnectedWorkers } from "../db/connected-workers.ts";
import { type OpenGraph, readOpenGraph, readOpenGraphBelow } from "../db/estimates.ts";
import { estimate } from "../domain/scheduling/estimate.ts";
import type { ServiceDeps } from "./deps.ts";

/** Of a larger graph as many builds are looked at, and the rest is taken for like them. */
const BUILDS_MAX = 5_000;

type EstimateDeps = Pick<ServiceDeps, "db">;

/** When all builds of an evaluation will have ended; null when nothing like them was built before. */
export async function estimateEvaluation(
  { db }: EstimateDeps,
  evaluation: { readonly id: string; readonly organizationId: string },
): Promise<EstimateView | null> {
  return await viewOf(db, evaluation.organizationId, await readOpenGraph(db, evaluation.id, BUILDS_MAX));
}

/** When a build that is open will have ended, with all that it waits for. */
export async function estimateBuild(
  { db }: EstimateDeps,
  build: { readonly id: string; readonly organizationId: string },
): Promise<EstimateView | null> {
  return await viewOf(db, build.organizationId, await readOpenGraphBelow(db, build.id, BUILDS_MAX));
}

async function viewOf(
  db: EstimateDeps["db"],
  organizationId: string,
  { builds, total }: OpenGraph,
): Promise<EstimateView | null> {
  if (builds.length === 0) return null;
  const found = estimate(builds, await countPlaces(db, organizationId));
  if (!found) return null;
  const more = total / builds.length;
  return {
    seconds: Math.ceil((found.medianMs * more) / 1_000),
    seconds_p90: Math.ceil((found.ninetiethMs * more) / 1_000),
    open_builds: total,
    known_builds: Math.round(found.knownBuilds * more),
  };
}

/** Places of all connected workers that build for the organization. Others may have them, too. */
async function countPlaces(db: EstimateDeps["db"], organizationId: string): Promise<number> {
  const builders = (await listConnectedWorkers(db)).filter(
    ({ draining, grants }) =>
      !draining && grants.some((grant) => grant.organizationId === organizationId && grant.build),
  );
  return builders.reduce((sum, { groups }) => sum + groups.reduce((places, group) => places + group.places, 0), 0);
}
