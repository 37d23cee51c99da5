import { type Context, InterruptedError, timeText } from "./context.ts";
import type { Wanted, WantedBuild, Wishes } from "./decide.ts";
import { decideNow, LastWord } from "./decide-again.ts";
import { ENDS, type End } from "./ends.ts";
import { newJournal, resumeJournal, runJournal } from "./journal-runner.ts";
import { sendReports, withoutPermission, withPermission } from "./mailbox.ts";
import { withoutBad } from "./memory.ts";
import { ServerError } from "./ports.ts";
import { checkBoot, isWaitingForBoot, noteWordOnBoot, rebootWhenNeeded } from "./reboot.ts";
import type { SystemView } from "./state.ts";
import { endUnchanged } from "./unchanged.ts";

/** How a run ended. */
export interface RunEnd {
  readonly end: End;
  readonly reason: string | null;
  readonly failedUnits: readonly string[];
  /** What the server wants, where it was asked. */
  readonly wanted: Wanted | null;
  /** There was nothing to deploy, so that the host is as it was. */
  readonly isUnchanged?: boolean;
}

/** So often a run follows the server to a newer build while it fetches one. */
const BUILDS_MAX = 5;

/** Whether the end of what was left from before says more than the end of what came after it. */
const SAYS_LITTLE: ReadonlySet<End> = new Set([
  "up-to-date",
  "will-boot",
  "bad-build",
  "held",
  "waiting",
  "nothing-built",
  "older",
  "unreachable",
]);

/** One whole run: what is left from before, then what the server wants now. */
export async function runOnce(
  context: Context,
  wishes: Wishes,
  { wanted = null, tellUnchanged = true }: { readonly wanted?: Wanted | null; readonly tellUnchanged?: boolean } = {},
): Promise<RunEnd> {
  const heardAtMs = context.clock.monotonic();
  const left = await finishLeft(context, wishes);
  const stuckRunId = context.keeper.state.journal?.runId;
  let ended = await deployWanted(context, wishes, { wanted, heardAtMs, tellUnchanged });
  const isStillBroken = stuckRunId !== undefined && context.keeper.state.journal?.runId === stuckRunId;
  if (left && (SAYS_LITTLE.has(ended.end) || isStillBroken)) ended = { ...left, wanted: ended.wanted };
  const afterwards = await rebootWhenNeeded(context, wishes);
  return remembered(context, afterwards ? { ...ended, ...afterwards, isUnchanged: false } : ended);
}

/** Only what is left from before; nothing new is asked for. */
export async function runResume(context: Context): Promise<RunEnd> {
  const wishes: Wishes = { force: false, allowOlder: false };
  const left = await finishLeft(context, wishes);
  await sendReports(context);
  const afterwards = await rebootWhenNeeded(context, wishes);
  const ended = left ?? { end: "resumed", reason: null, failedUnits: [], wanted: null };
  return remembered(context, afterwards ? { ...ended, ...afterwards } : ended);
}

async function finishLeft(context: Context, { force }: Wishes): Promise<RunEnd | null> {
  const { keeper } = context;
  for (let { journal } = keeper.state; journal; { journal } = keeper.state) {
    // Who forces a build onto a host that could not be restored does not want to wait for that to fail again.
    if (journal.rollbackFailed && force) return null;
    const outcome = await resumeJournal(context, journal);
    if (outcome.end !== "interrupted") return { ...outcome, wanted: null };
    // It was cut off before it changed anything, and what could not be undone before it is there again.
  }
  const booted = await checkBoot(context);
  return booted && { ...booted, wanted: null };
}

async function deployWanted(
  context: Context,
  wishes: Wishes,
  options: { readonly wanted: Wanted | null; readonly heardAtMs: number; readonly tellUnchanged: boolean },
): Promise<RunEnd> {
  const { settings, clock } = context;
  let { wanted, heardAtMs } = options;
  if (!wanted) {
    try {
      wanted = await context.server.wanted();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (context.signal.aborted) throw new InterruptedError("interrupted while asking the server");
      return { end: error.end, reason: error.message, failedUnits: [], wanted: null };
    }
    heardAtMs = clock.monotonic();
  }
  if (settings.report && !wanted.canReport) withoutPermission(context);
  else withPermission(context);
  for (let builds = 1; ; builds++) {
    noteWordOnBoot(context, wanted);
    const view = context.host.view();
    const decision = decideNow(context, wanted, wishes);
    if (decision.kind === "end") {
      if (decision.end === "up-to-date") forgetBad(context, wanted);
      const found = await endUnchanged(context, wanted, { decision, view, tells: options.tellUnchanged });
      await sendReports(context);
      return { end: decision.end, ...found, wanted, isUnchanged: true };
    }
    const word = new LastWord(wanted, { heardAtMs, wishes });
    const outcome = await deploy(context, word, decision.target);
    noteWordOnBoot(context, word.wanted);
    if (!word.isOfAnother || builds >= BUILDS_MAX) return { ...outcome, wanted: word.wanted };
    wanted = word.wanted;
    heardAtMs = clock.monotonic();
  }
}

/** It was released, and is in place: where rollback is off a build that failed stays. */
function forgetBad({ keeper }: Context, { build }: Wanted): void {
  const isBad = keeper.state.bad.some(({ storePath }) => storePath === build?.storePath);
  if (build && isBad) keeper.update((state) => withoutBad(state, build.storePath));
}

function deploy(context: Context, word: LastWord, target: WantedBuild): Promise<Omit<RunEnd, "wanted">> {
  const { keeper, settings } = context;
  const about = { goal: "deploy", phase: "downloading", cause: null, mode: settings.mode, target } as const;
  const journal = newJournal(context, { ...about, before: viewBefore(context) });
  // Written down together with what it puts aside, so that neither can be lost.
  const first = { ...journal, unfinished: keeper.state.journal };
  return runJournal(context, first, word.wanted.caches, (...about) => word.confirm(...about));
}

/** While a system waits for its boot, or could not be undone, the one that is known to be good is the one before it. */
function viewBefore({ host, keeper }: Context): SystemView {
  const { pendingBoot, journal } = keeper.state;
  const view = host.view();
  if (journal) return journal.before;
  const isPending = pendingBoot?.target.storePath === view.profilePath && isWaitingForBoot(host, pendingBoot);
  if (!pendingBoot || !isPending) return view;
  return { ...pendingBoot.before, runningPath: view.runningPath };
}

function remembered({ keeper, clock }: Context, ended: RunEnd): RunEnd {
  const { end, reason } = ended;
  const lastRun = { end, exitCode: ENDS[end].exitCode, reason, finishedAt: timeText(clock) };
  keeper.update((state) => ({ ...state, lastRun }));
  return ended;
}
