import { type Context, timeText } from "./context.ts";
import { newJournal, runJournal } from "./journal-runner.ts";
import type { RunEnd } from "./run.ts";
import type { SystemView, Target } from "./state.ts";

/** The operator's wish to go back: the system before is restored, and the present build refused from now on. */
export async function runUndo(context: Context): Promise<RunEnd> {
  const { host, keeper } = context;
  const { state } = keeper;
  const view = host.view();
  const before = beforePresent(context, view);
  if (!before) {
    return { end: "nothing-before", reason: "there is no system before", failedUnits: [], wanted: null };
  }
  // What a newer build has put aside is what happened to the host.
  const left = state.journal?.unfinished ?? state.journal;
  const reason = `rolled back by hand at ${timeText(context.clock)}`;
  const journal = newJournal(context, {
    goal: "undo",
    // Half a deployment is undone by the same way.
    mode: left?.mode === "test" ? "test" : "switch",
    phase: left?.mode === "test" ? "restoring-system" : "restoring-profile",
    cause: { end: "rolled-back-by-hand", reason, failedUnits: [] },
    target: left?.target ?? state.pendingBoot?.target ?? presentTarget(context, view),
    before,
  });
  const begun = { ...journal, profileRestored: journal.mode === "test" };
  keeper.update((known) => ({ ...known, journal: begun }));
  return { ...(await runJournal(context, begun, [])), wanted: null };
}

function beforePresent({ host, keeper }: Context, view: SystemView): SystemView | null {
  const { journal, pendingBoot, before, deployed } = keeper.state;
  if (journal) return journal.before;
  if (pendingBoot && pendingBoot.target.storePath === view.profilePath) return pendingBoot.before;
  const isOurs =
    deployed !== null && (deployed.storePath === view.profilePath || deployed.storePath === view.runningPath);
  if (before?.profilePath && isOurs) {
    // Where only the running system was changed (mode test), the profile is as it was.
    return { ...before, runningPath: before.profilePath };
  }
  const generation = host.generationBefore();
  if (!generation) return null;
  const { number, systemPath } = generation;
  return { ...view, profilePath: systemPath, runningPath: systemPath, generation: number };
}

/** What runs now, as far as it is known. */
function presentTarget({ keeper }: Context, view: SystemView): Target {
  const { deployed } = keeper.state;
  const storePath = view.profilePath ?? view.runningPath ?? "";
  if (deployed && (deployed.storePath === storePath || deployed.storePath === view.runningPath)) return deployed;
  return { storePath, buildId: "", evaluationId: "", order: 0, commit: "" };
}
