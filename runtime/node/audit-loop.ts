import { sleep } from "#core/lib/clock.ts";
import { pruneAuditEvents } from "#core/services/audit.ts";
import { deleteBuriedOrganizations } from "#core/services/organization-deletion.ts";
import { type AuditDeps, auditGraph, pruneSessions } from "#core/services/transitions/audit.ts";

const PRUNE_INTERVAL_MS = 3_600_000;
const BURIAL_INTERVAL_MS = 60_000;

/**
 * Audits the build graph again and again, and removes ended sessions, old records of who did what, and what is left of
 * large organizations that were deleted, until it is stopped. It never rejects.
 */
export async function keepAuditing(
  deps: AuditDeps,
  { intervalMs, signal }: { readonly intervalMs: number; readonly signal: AbortSignal },
): Promise<void> {
  const every = async (pauseMs: number, task: () => Promise<unknown>): Promise<void> => {
    while (pauseMs > 0 && !signal.aborted) {
      await sleep(deps.clock, pauseMs, signal);
      if (signal.aborted) return;
      await task().catch((error: unknown) => deps.log.warn("an audit did not come to its end", { error }));
    }
  };
  await Promise.all([
    every(intervalMs, () => auditGraph(deps, signal)),
    every(PRUNE_INTERVAL_MS, () => pruneSessions(deps, signal)),
    every(PRUNE_INTERVAL_MS, () => pruneAuditEvents(deps.db, signal)),
    every(BURIAL_INTERVAL_MS, () => deleteBuriedOrganizations(deps.db, signal)),
  ]);
}
