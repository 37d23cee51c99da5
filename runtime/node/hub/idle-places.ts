import type { WorkerGrant } from "#core/services/worker-auth.ts";
import type { HeldAttempts } from "./held-attempts.ts";

/** What is looked at of the builds of a worker's session. */
export interface BuildLoad {
  readonly draining: boolean;
  readonly grants: readonly Pick<WorkerGrant, "organizationId" | "build">[];
  /** Places that the worker has asked to fill. */
  readonly free: { readonly builds: readonly number[] };
  /** All that it has. */
  readonly buildPlaces: number;
  readonly attempts: Pick<HeldAttempts, "unreportedBuilds">;
}

/**
 * Whether what a worker has built may wait a moment to be recorded: all its places are busy for a while, and no other
 * worker of this server is idle, so that nobody waits for it, nor for what it makes ready.
 */
export function mayWait(own: BuildLoad, all: Iterable<BuildLoad | null>, organizationId: string): boolean {
  if (own.attempts.unreportedBuilds <= own.buildPlaces) return false;
  for (const load of all) if (load && isIdle(load, organizationId)) return false;
  return true;
}

function isIdle({ draining, grants, free, attempts, buildPlaces }: BuildLoad, organizationId: string): boolean {
  if (draining || !free.builds.some((count) => count > 0)) return false;
  const isGranted = grants.some((grant) => grant.build && grant.organizationId === organizationId);
  // Last: it counts all that the worker holds.
  return isGranted && attempts.unreportedBuilds < buildPlaces;
}
