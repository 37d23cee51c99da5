import { type Context, InterruptedError, timeText } from "./context.ts";
import { type Decision, decide, type Wanted, type Wishes } from "./decide.ts";
import { ENDS, type End } from "./ends.ts";
import { newJournal, resumeJournal, runJournal } from "./journal-runner.ts";
import { sendReports, withoutPermission, withPermission } from "./mailbox.ts";
import { ServerError } from "./ports.ts";
import { bootToCome, checkBoot, rebootWhenNeeded } from "./reboot.ts";
import type { SystemView } from "./state.ts";
import { endUnchanged } from "./unchanged.ts";

/** How a run ended. */
export interface RunEnd {
  readonly end: End;
  readonly reason: string | null;
  readonly failedUnits: readonly string[];
  /** What the server wants, where it was asked. */
  readonly wanted: Wanted | null;
}

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
  const left = await finishLeft(context, wishes);
  let ended = await deployWanted(context, wishes, { wanted, tellUnchanged });
  if (left && SAYS_LITTLE.has(ended.end)) ended = { ...left, wanted: ended.wanted };
  const afterwards = await rebootWhenNeeded(context);
  return remembered(context, afterwards ? { ...ended, ...afterwards } : ended);
}

/** Only what is left from before; nothing new is asked for. */
export async function runResume(context: Context): Promise<RunEnd> {
  const left = await finishLeft(context, { force: false, allowOlder: false });
  await sendReports(context);
  const afterwards = await rebootWhenNeeded(context);
  const ended = left ?? { end: "resumed", reason: null, failedUnits: [], wanted: null };
  return remembered(context, afterwards ? { ...ended, ...afterwards } : ended);
}

async function finishLeft(context: Context, { force }: Wishes): Promise<RunEnd | null> {
  const { keeper } = context;
  const { journal } = keeper.state;
  const isFailedRollback = journal?.cause != null;
  // Who forces a build onto a host that could not be restored does not want to wait for that to fail again.
  if (isFailedRollback && force) return null;
  if (journal) {
    const outcome = await resumeJournal(context, journal);
    // A download that was cut off is nothing that has to be put right.
    return outcome.end === "interrupted" ? null : { ...outcome, wanted: null };
  }
  const booted = await checkBoot(context);
  return booted && { ...booted, wanted: null };
}

async function deployWanted(
  context: Context,
  wishes: Wishes,
  options: { readonly wanted: Wanted | null; readonly tellUnchanged: boolean },
): Promise<RunEnd> {
  const { host, keeper, settings } = context;
  let wanted = options.wanted;
  try {
    wanted ??= await context.server.wanted();
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (context.signal.aborted) throw new InterruptedError("interrupted while asking the server");
    return { end: error.end, reason: error.message, failedUnits: [], wanted: null };
  }
  if (settings.report && !wanted.canReport) withoutPermission(context);
  else withPermission(context);
  const view = host.view();
  const nextBoot = bootToCome(context)?.target ?? null;
  const decision = decide(wanted, { state: keeper.state, view, mode: settings.mode, nextBoot }, wishes);
  if (decision.kind === "end") {
    const found = await endUnchanged(context, wanted, { decision, view, tells: options.tellUnchanged });
    await sendReports(context);
    return { end: decision.end, ...found, wanted };
  }
  const outcome = await deploy(context, wanted, decision);
  return { ...outcome, wanted };
}

async function deploy(
  context: Context,
  wanted: Wanted,
  { target }: Extract<Decision, { readonly kind: "deploy" }>,
): Promise<Omit<RunEnd, "wanted">> {
  const { mode } = context.settings;
  const before = viewBefore(context);
  const journal = newJournal(context, { goal: "deploy", phase: "downloading", cause: null, mode, target, before });
  return runJournal(context, journal, wanted.caches);
}

/** While a system waits for its boot, or could not be undone, the one that is known to be good is the one before it. */
function viewBefore({ host, keeper }: Context): SystemView {
  const { pendingBoot, journal } = keeper.state;
  const view = host.view();
  if (journal) return journal.before;
  const isPending = pendingBoot?.bootId === host.bootId() && pendingBoot?.target.storePath === view.profilePath;
  if (!pendingBoot || !isPending) return view;
  return { ...pendingBoot.before, runningPath: view.runningPath };
}

function remembered({ keeper, clock }: Context, ended: RunEnd): RunEnd {
  const { end, reason } = ended;
  const lastRun = { end, exitCode: ENDS[end].exitCode, reason, finishedAt: timeText(clock) };
  keeper.update((state) => ({ ...state, lastRun }));
  return ended;
}
