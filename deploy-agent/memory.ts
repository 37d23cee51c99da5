import type { Outcome } from "./machine.ts";
import type { AgentState, Journal } from "./state.ts";
import { rememberBad } from "./state.ts";

/** What is remembered when a deployment has ended. */
export function remember(
  state: AgentState,
  { journal, outcome }: { readonly journal: Journal; readonly outcome: Outcome },
  { at, bootId }: { readonly at: string; readonly bootId: string | null },
): AgentState {
  const { target, before } = journal;
  // What has not begun to switch leaves to the next run what could not be undone before it.
  const unfinished = outcome.verdict === "none" ? journal.unfinished : null;
  const kept = outcome.keepJournal ? { ...journal, rollbackFailed: true } : unfinished;
  const ended: AgentState = { ...state, journal: kept };
  switch (outcome.verdict) {
    case "deployed":
      return {
        ...withoutBad(ended, target.storePath),
        deployed: target,
        deployedFailedUnits: failedBefore(state, journal),
        order: target.order,
        before: before.profilePath === target.storePath ? state.before : before,
        pendingBoot: null,
        isNextBootHeld: false,
      };
    case "pending": {
      const { mode, failedUnitsBefore } = journal;
      const pendingBoot = { target, before, mode, bootId: bootId ?? "", failedUnitsBefore };
      return { ...withoutBad(ended, target.storePath), order: target.order, pendingBoot, isNextBootHeld: false };
    }
    case "bad": {
      const { storePath, buildId } = target;
      const reason = (outcome.reason ?? "").slice(0, 1_000);
      const bad = rememberBad(ended, { storePath, buildId, reason, at, isConfirmed: false });
      const wasDeployed = state.deployed?.storePath === storePath;
      return {
        ...bad,
        pendingBoot: null,
        ...(wasDeployed ? { deployed: null, deployedFailedUnits: null, before: null } : {}),
      };
    }
    case "none":
      return ended;
  }
}

/** A system that is checked again, as after a boot, is still measured by the one before it. */
function failedBefore({ deployed, deployedFailedUnits }: AgentState, { target, failedUnitsBefore }: Journal) {
  const isSame = deployed?.storePath === target.storePath;
  return (isSame ? deployedFailedUnits : null) ?? failedUnitsBefore;
}

export function withoutBad(state: AgentState, storePath: string): AgentState {
  return { ...state, bad: state.bad.filter((build) => build.storePath !== storePath) };
}
