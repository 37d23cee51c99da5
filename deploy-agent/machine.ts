import type { End } from "./ends.ts";
import type { Mode } from "./settings.ts";
import type { Cause, Journal, Phase, SystemView } from "./state.ts";

/** What `switch-to-configuration` is to be called with, in this order. */
export interface SwitchStep {
  readonly systemPath: string;
  readonly action: Mode;
  /** It ran before: checks that are to keep people from a risky switch must not keep a host from its way back. */
  readonly isRestore: boolean;
}

/** What has to be done in a phase. Each can be done twice. */
export type Work =
  | { readonly kind: "download" }
  | { readonly kind: "set-profile"; readonly systemPath: string; readonly generation: number | null }
  | { readonly kind: "switch"; readonly steps: readonly SwitchStep[]; readonly expectRunning: string | null }
  | { readonly kind: "check" };

export interface Failure {
  readonly ok: false;
  readonly end: End;
  readonly reason: string;
  readonly failedUnits?: readonly string[];
}

/** How the work of a phase went. `needsBoot`: the new system cannot run before the next boot. */
export type WorkResult = { readonly ok: true; readonly needsBoot?: boolean } | Failure;

/** How a deployment ended, and what is to be remembered of it. */
export interface Outcome {
  readonly end: End;
  readonly reason: string | null;
  readonly failedUnits: readonly string[];
  /** deployed: the target is good. bad: it is refused from now on. pending: it waits for the next boot. */
  readonly verdict: "deployed" | "bad" | "pending" | "none";
  /** The journal is kept: the next run tries again. */
  readonly keepJournal: boolean;
}

export type Step =
  | { readonly kind: "go-on"; readonly journal: Journal }
  | { readonly kind: "end"; readonly outcome: Outcome };

/** A phase that was begun so often without an end is what takes the host down. */
export const ATTEMPTS_MAX = 2;

const CHANGES_PROFILE: ReadonlySet<Mode> = new Set(["switch", "boot"]);

/** What the journal's phase has to do. */
export function workOf(journal: Journal): Work {
  const { target, before, mode } = journal;
  switch (journal.phase) {
    case "downloading":
      return { kind: "download" };
    case "profile":
      return { kind: "set-profile", systemPath: target.storePath, generation: null };
    case "switching":
      return {
        kind: "switch",
        steps: [{ systemPath: target.storePath, action: mode, isRestore: false }],
        expectRunning: mode === "switch" || mode === "test" ? target.storePath : null,
      };
    case "checking":
      return { kind: "check" };
    case "restoring-profile":
      return { kind: "set-profile", systemPath: profileOf(before), generation: before.generation };
    case "restoring-system":
      return restoreWork(journal);
  }
}

/**
 * A host whose profile and running system were the same gets that one back. Where they differed (somebody had set up
 * another one for the next boot, or only tried one) each is restored: the boot entry first, then the running system.
 */
function restoreWork({ before, mode, goal }: Journal): Work {
  const profile = profileOf(before);
  const running = before.runningPath ?? profile;
  if (mode === "test") {
    return {
      kind: "switch",
      steps: [{ systemPath: running, action: "test", isRestore: true }],
      expectRunning: running,
    };
  }
  const onlyBooted = mode === "boot" && goal === "deploy";
  if (onlyBooted)
    return { kind: "switch", steps: [{ systemPath: profile, action: "boot", isRestore: true }], expectRunning: null };
  if (profile === running) {
    return {
      kind: "switch",
      steps: [{ systemPath: profile, action: "switch", isRestore: true }],
      expectRunning: profile,
    };
  }
  const steps: SwitchStep[] = [
    { systemPath: profile, action: "boot", isRestore: true },
    { systemPath: running, action: "test", isRestore: true },
  ];
  return { kind: "switch", steps, expectRunning: running };
}

/** The journal after its phase's work, or the end. */
export function advance(journal: Journal, result: WorkResult, { rollback }: { readonly rollback: boolean }): Step {
  switch (journal.phase) {
    case "downloading":
      if (!result.ok) return end(result.end, result.reason);
      return go(journal, CHANGES_PROFILE.has(journal.mode) ? "profile" : "switching");
    case "profile":
      return result.ok ? go(journal, "switching") : undo(journal, causeOf(result), rollback);
    case "switching":
      return afterSwitch(journal, result, rollback);
    case "checking":
      if (result.ok) return end("deployed", null, { verdict: "deployed" });
      return undo(journal, causeOf(result), rollback);
    case "restoring-profile":
      // Nothing was switched, so that nothing needs to be switched back.
      if (result.ok && journal.cause && isHarmless(journal.cause)) return end(journal.cause.end, journal.cause.reason);
      // With the profile as it is, the host itself can still be put right.
      return {
        kind: "go-on",
        journal: { ...inPhase(journal, "restoring-system"), profileRestored: result.ok, unfinished: null },
      };
    case "restoring-system":
      return afterRestore(journal, result);
  }
}

function afterSwitch(journal: Journal, result: WorkResult, rollback: boolean): Step {
  const hasBegun = result.ok || result.end !== "busy" || journal.attempts > 1;
  if (!hasBegun) return putProfileBack(journal, causeOf(result));
  if (journal.mode === "dry-activate") {
    return result.ok ? end("dry-activated", null) : end("dry-activate-failed", result.reason);
  }
  // What could not be undone before is replaced from here on, and its build was remembered as bad.
  const begun = { ...journal, unfinished: null };
  if (!result.ok) return undo(begun, { ...causeOf(result), end: "rolled-back" }, rollback);
  if (journal.mode === "boot" || result.needsBoot) return end("will-boot", null, { verdict: "pending" });
  return go(begun, "checking");
}

function afterRestore(journal: Journal, result: WorkResult): Step {
  const cause = journal.cause ?? { end: "rolled-back", reason: "undone", failedUnits: [] };
  // What was not set right by the profile's command alone has hurt nobody, and says nothing of the build.
  const verdict = isHarmless(cause) ? "none" : "bad";
  if (result.ok && journal.profileRestored) {
    return end(cause.end, cause.reason, { verdict, failedUnits: cause.failedUnits });
  }
  const trouble = result.ok ? "the profile could not be set back" : result.reason;
  return end("rollback-failed", `${cause.reason}; then the rollback failed: ${trouble}`, {
    verdict,
    failedUnits: cause.failedUnits,
    keepJournal: true,
  });
}

/** Begins to restore what was there before, where there was something and it is wished. */
export function undo(journal: Journal, cause: Cause, rollback: boolean): Step {
  const verdict = isHarmless(cause) ? "none" : "bad";
  if (!rollback) {
    return end("failed", `${cause.reason}; rollback is off`, { verdict, failedUnits: cause.failedUnits });
  }
  if (!canRestore(journal)) {
    const reason = `${cause.reason}; there is no system before to go back to`;
    return end("failed", reason, { verdict, failedUnits: cause.failedUnits });
  }
  const touchesProfile = CHANGES_PROFILE.has(journal.mode);
  const phase: Phase = touchesProfile ? "restoring-profile" : "restoring-system";
  return { kind: "go-on", journal: { ...inPhase(journal, phase), cause, profileRestored: !touchesProfile } };
}

/** Whether the build was not tried at all, so that this says nothing of it. */
function isHarmless(cause: Cause): boolean {
  return cause.end === "profile-failed" || cause.end === "busy";
}

/** After a switch that never began: also where rollback is off, as nothing has failed. */
function putProfileBack(journal: Journal, cause: Cause): Step {
  if (!CHANGES_PROFILE.has(journal.mode) || !canRestore(journal)) return end(cause.end, cause.reason);
  return { kind: "go-on", journal: { ...inPhase(journal, "restoring-profile"), cause, profileRestored: false } };
}

function canRestore({ before }: Journal): boolean {
  return profileOf(before) !== "";
}

/** A host that was installed without a profile has at least what runs. */
function profileOf({ profilePath, runningPath }: SystemView): string {
  return profilePath ?? runningPath ?? "";
}

/**
 * What a run does with a journal that it finds. Before anything was changed it is dropped; what was begun is done
 * again; what was begun too often is undone.
 */
export function resume(journal: Journal, { rollback }: { readonly rollback: boolean }): Step {
  const { phase, attempts, mode } = journal;
  if (phase === "downloading" || mode === "dry-activate") {
    return end("interrupted", "an earlier run was interrupted before it changed anything");
  }
  if (phase === "restoring-profile" || phase === "restoring-system") {
    const first: Phase = CHANGES_PROFILE.has(mode) ? "restoring-profile" : "restoring-system";
    return { kind: "go-on", journal: inPhase(journal, first) };
  }
  if (attempts < ATTEMPTS_MAX) return { kind: "go-on", journal };
  const reason = `the run was interrupted ${attempts} times while ${DOING[phase]}`;
  return undo(journal, { end: "rolled-back", reason, failedUnits: [] }, rollback);
}

const DOING: Readonly<Record<Phase, string>> = {
  downloading: "downloading",
  profile: "setting the profile",
  switching: "switching",
  checking: "checking its health",
  "restoring-profile": "restoring the profile",
  "restoring-system": "restoring the system",
};

/** The journal with its phase's work about to begin: to be written down before that. */
export function begin(journal: Journal, switchToken: string | null): Journal {
  return { ...journal, attempts: journal.attempts + 1, switchToken };
}

function go(journal: Journal, phase: Phase): Step {
  return { kind: "go-on", journal: inPhase(journal, phase) };
}

function inPhase(journal: Journal, phase: Phase): Journal {
  return { ...journal, phase, attempts: 0, switchToken: null };
}

function causeOf({ end: name, reason, failedUnits = [] }: Failure): Cause {
  return { end: name, reason, failedUnits };
}

function end(name: End, reason: string | null, more: Partial<Outcome> = {}): Step {
  return {
    kind: "end",
    outcome: { end: name, reason, failedUnits: [], verdict: "none", keepJournal: false, ...more },
  };
}

/** Whether the system links are those that a mode leads to. */
export function isInPlace(view: SystemView, storePath: string, mode: Mode): boolean {
  if (mode === "switch") return view.profilePath === storePath && view.runningPath === storePath;
  if (mode === "boot") return view.profilePath === storePath;
  return mode === "test" && view.runningPath === storePath;
}
