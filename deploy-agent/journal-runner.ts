import { uuidV4, uuidV7 } from "#core/lib/ids.ts";
import { type Context, InterruptedError, timeText } from "./context.ts";
import type { WantedCache } from "./decide.ts";
import type { AskAgain } from "./decide-again.ts";
import { ENDS, type End } from "./ends.ts";
import { checkHealth } from "./health.ts";
import {
  advance,
  begin,
  type Outcome,
  resume,
  type Step,
  type SwitchStep,
  type Work,
  type WorkResult,
  workOf,
} from "./machine.ts";
import { sendReports, type Telling, withTold } from "./mailbox.ts";
import { remember } from "./memory.ts";
import { type ReportStep, stepOfPhase } from "./reports.ts";
import type { AgentState, Journal, QueuedReport, SystemView, Target } from "./state.ts";
import { waitUntilFree } from "./waiting.ts";

/** A deployment that is about to begin. */
export function newJournal(
  context: Context,
  about: Pick<Journal, "goal" | "phase" | "cause" | "mode"> & { readonly target: Target; readonly before: SystemView },
): Journal {
  const { storePath, buildId, evaluationId, order, commit } = about.target;
  return {
    ...about,
    target: { storePath, buildId, evaluationId, order, commit },
    runId: uuidV7(context.clock.now(), context.random),
    sequence: 0,
    failedUnitsBefore: null,
    attempts: 0,
    switchToken: null,
    profileRestored: false,
    rollbackFailed: false,
    unfinished: null,
    startedAt: timeText(context.clock),
  };
}

/**
 * Takes the journal from where it stands to an end. `askAgain` has the last word before anything is changed. Throws
 * `InterruptedError` when the agent was asked to end.
 */
export async function runJournal(
  context: Context,
  first: Journal,
  caches: readonly WantedCache[],
  askAgain: AskAgain = async () => null,
): Promise<Outcome> {
  let journal = first;
  for (;;) {
    if (context.signal.aborted) throw new InterruptedError(`interrupted before the phase ${journal.phase}`);
    journal = await beginPhase(context, journal);
    const step = await stepAfter(context, journal, await workAndTell(context, journal, { caches, askAgain }));
    if (step.kind === "end") return finish(context, journal, step.outcome);
    journal = moveOn(context, journal, step);
  }
}

/** What is left of an earlier run: ended, undone or dropped. */
export async function resumeJournal(context: Context, left: Journal): Promise<Outcome> {
  const { host, narrator, settings } = context;
  // Booted after all, before the way back from it was ready: then it is more than the boot that has to be undone.
  const isBooted = left.cause?.end === "booted-other" && host.view().runningPath === left.target.storePath;
  const found: Journal = isBooted ? { ...left, mode: "switch" } : left;
  narrator.info(`an earlier run was interrupted in the phase ${found.phase}; this one goes on`);
  const known = found.switchToken === null ? null : await host.outcomeOf(found.switchToken);
  if (context.signal.aborted) throw new InterruptedError("interrupted while an earlier switch was still running");
  // A part of several says nothing of the rest, so a restore is done again as a whole.
  const result = known && found.phase === "switching" ? verified(context, found, known) : null;
  const step = result ? advance(found, result, settings) : resume(found, settings);
  if (step.kind === "end") return finish(context, found, step.outcome);
  return runJournal(context, moveOn(context, found, step), []);
}

/** Writes down that the phase's work begins, with what is to be told of it. */
async function beginPhase(context: Context, journal: Journal): Promise<Journal> {
  const { keeper, host, random } = context;
  const isSwitch = journal.phase === "switching" || journal.phase === "restoring-system";
  let begun = begin(journal, isSwitch ? uuidV4(random) : null);
  if (journal.phase === "downloading" && journal.failedUnitsBefore === null) {
    begun = { ...begun, failedUnitsBefore: await host.failedUnits() };
  }
  const told = stepOfPhase(journal);
  const steps: ReportStep[] = told === "downloading" ? ["started", told] : told ? [told] : [];
  keeper.update((state) =>
    steps.reduce<AgentState>((so, step) => withTold(context, so, so.journal ?? begun, { step, health: "unknown" }), {
      ...state,
      journal: begun,
    }),
  );
  return keeper.state.journal ?? begun;
}

interface Order {
  readonly caches: readonly WantedCache[];
  readonly askAgain: AskAgain;
  /** A switch has been running for a moment. */
  readonly onUnderWay?: () => void;
}

/**
 * Does the work of a phase while the server is told of it: of a switch once it is under way, as one that never begins
 * says nothing of the build. Both are over when this returns, also where one of them failed: the lock is held until
 * then.
 */
async function workAndTell(context: Context, journal: Journal, order: Order): Promise<WorkResult> {
  const told = stepOfPhase(journal);
  if (told === null) return doWork(context, journal, order);
  if (told === "activating") {
    let telling = Promise.resolve();
    const tell = (): void => {
      telling = sendReports(context);
      // Looked at below, when the switch is over.
      telling.catch(() => {});
    };
    try {
      return await doWork(context, journal, { ...order, onUnderWay: tell });
    } finally {
      await telling;
    }
  }
  const [work, telling] = await Promise.allSettled([doWork(context, journal, order), sendReports(context)]);
  if (work.status === "rejected") throw work.reason;
  if (telling.status === "rejected") throw telling.reason;
  return work.value;
}

async function doWork(context: Context, journal: Journal, order: Order): Promise<WorkResult> {
  const { host, narrator } = context;
  const work: Work = workOf(journal);
  switch (work.kind) {
    case "download":
      narrator.info(`downloading ${journal.target.storePath}`);
      return downloadAndWait(context, journal, order);
    case "set-profile":
      narrator.info(`setting the profile to ${work.systemPath}`);
      return host.setProfile(work.systemPath, work.generation);
    case "check":
      narrator.info("checking the host's health");
      return checkHealth(context, journal);
    case "switch":
      return doSwitch(context, journal, {
        steps: bootsFirst(context, journal) ? asBoot(work.steps) : work.steps,
        onUnderWay: order.onUnderWay,
      });
  }
}

/**
 * Fetching disturbs nobody, switching may: so a busy host has everything ready when it is free. Both may take hours in
 * which a build fails elsewhere, so that nothing is changed before the server was asked again.
 */
async function downloadAndWait(
  context: Context,
  { target, mode, before }: Journal,
  { caches, askAgain }: Order,
): Promise<WorkResult> {
  const { host } = context;
  const [fetched] = await Promise.all([host.download(target, caches), host.pin(before)]);
  if (!fetched.ok) return fetched;
  const busy = mode === "switch" || mode === "test" ? await waitUntilFree(context) : null;
  if (busy !== null) return { ok: false, end: "busy", reason: busy };
  return (await askAgain(context, target)) ?? fetched;
}

async function doSwitch(
  context: Context,
  journal: Journal,
  { steps, onUnderWay }: { readonly steps: readonly SwitchStep[]; readonly onUnderWay?: (() => void) | undefined },
): Promise<WorkResult> {
  const { host, narrator, signal } = context;
  let needsBoot = false;
  for (const [index, step] of steps.entries()) {
    narrator.info(`switch-to-configuration ${step.action} of ${step.systemPath}`);
    const result = await host.switchTo(
      step,
      index === 0 ? `${journal.switchToken}` : `${journal.switchToken}-${index}`,
      onUnderWay,
    );
    if (signal.aborted && !result.ok) throw new InterruptedError("interrupted while switching; the switch goes on");
    if (!result.ok) return result;
    needsBoot ||= result.needsBoot === true;
  }
  return verified(context, journal, { ok: true, needsBoot });
}

/** Such a system is set up for the next boot, which is all that can be done for it now. */
function bootsFirst({ host }: Context, { phase, mode, target }: Journal): boolean {
  return phase === "switching" && mode === "switch" && host.needsBootFirst(target.storePath);
}

function asBoot(steps: readonly SwitchStep[]): readonly SwitchStep[] {
  return steps.map((step) => ({ ...step, action: "boot" }));
}

/** A switch is done when the host runs what it was switched to. */
function verified(context: Context, journal: Journal, result: WorkResult): WorkResult {
  const work = workOf(journal);
  if (!result.ok || result.needsBoot || work.kind !== "switch" || work.expectRunning === null) return result;
  if (bootsFirst(context, journal)) return { ok: true, needsBoot: true };
  const { runningPath } = context.host.view();
  if (runningPath === work.expectRunning) return result;
  const reason = `the switch said it was done, but ${runningPath ?? "nothing"} is running`;
  return { ok: false, end: "rolled-back", reason };
}

async function stepAfter(context: Context, journal: Journal, result: WorkResult): Promise<Step> {
  if (context.signal.aborted && !result.ok) throw new InterruptedError(`interrupted in the phase ${journal.phase}`);
  return advance(journal, result, context.settings);
}

/** Writes the next phase down; when that begins an undoing, the failure is told with it. */
function moveOn(context: Context, journal: Journal, step: Extract<Step, { readonly kind: "go-on" }>): Journal {
  const { keeper, narrator } = context;
  const next = step.journal;
  const isUndone = next.cause !== null && journal.cause === null;
  if (isUndone) narrator.warn(`going back to the system before: ${next.cause?.reason}`);
  const state = keeper.update((before) => {
    if (!isUndone || !next.cause) return { ...before, journal: next };
    if (next.cause.end === "busy") return { ...withoutActivating(before, next), journal: next };
    const { reason, failedUnits } = next.cause;
    return withTold(context, before, next, { step: "failed", health: "unhealthy", reason, failedUnits });
  });
  return state.journal ?? next;
}

/** Remembers the end and tells it, in one. */
async function finish(context: Context, journal: Journal, outcome: Outcome): Promise<Outcome> {
  const { keeper, clock, host } = context;
  const now = { at: timeText(clock), bootId: host.bootId() };
  keeper.update((state) => {
    const known = outcome.end === "busy" ? withoutActivating(state, journal) : state;
    const told = withTold(context, known, journal, tellingOf(outcome));
    const counted = told.journal ?? journal;
    return remember(told, { journal: { ...counted, attempts: 0 }, outcome }, now);
  });
  await sendReports(context);
  return outcome;
}

/** Of a switch that never began: the server would take the build for one that failed. */
function withoutActivating(state: AgentState, { runId }: Journal): AgentState {
  const isOfIt = ({ body }: QueuedReport) => body.run_id === runId && body.step === ("activating" satisfies ReportStep);
  return { ...state, reports: state.reports.filter((report) => !isOfIt(report)) };
}

/** `booted-other` comes here only after the profile was put back. */
const RESTORED: ReadonlySet<End> = new Set(["rolled-back", "unhealthy", "rolled-back-by-hand", "booted-other"]);

function tellingOf(outcome: Outcome): Telling {
  const { end, reason, failedUnits } = outcome;
  const exitCode = ENDS[end].exitCode;
  if (end === "deployed") return { step: "succeeded", health: "healthy", exitCode };
  if (end === "will-boot")
    return { step: "succeeded", health: "unknown", reason: "runs after the next boot", exitCode };
  if (end === "dry-activated" || end === "up-to-date") return { step: "succeeded", health: "unknown", exitCode };
  if (RESTORED.has(end)) return { step: "rolled_back", health: "unknown", reason, failedUnits, exitCode };
  const health = outcome.verdict === "bad" ? "unhealthy" : "unknown";
  return { step: "failed", health, reason, failedUnits, exitCode };
}
