import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { healMissingInputs } from "#core/services/missing-inputs.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";

/**
 * Looks for what a build could not get, before its result is recorded: its next try then waits for what is lost. Never
 * throws: the result counts in any case.
 */
export async function lookForMissing(deps: HubDeps, held: LeasedAttempt, { failure }: BuildResult): Promise<void> {
  if (failure?.class !== "inputs_unavailable" || failure.missing.length === 0) return;
  try {
    const { build_id } = await deps.db
      .selectFrom("attempt")
      .select("build_id")
      .where("id", "=", held.id)
      .executeTakeFirstOrThrow();
    if (build_id === null) return;
    await healMissingInputs(deps, { organizationId: held.organizationId, buildId: build_id }, failure.missing);
  } catch (error) {
    deps.log.warn("missing inputs were not looked for", { attempt: held.id, error });
  }
}
