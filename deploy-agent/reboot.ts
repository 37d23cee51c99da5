import type { Context } from "./context.ts";
import { timeText } from "./context.ts";
import type { Wanted, Wishes } from "./decide.ts";
import { newJournal, runJournal } from "./journal-runner.ts";
import { type Outcome, undo } from "./machine.ts";
import { sendReports, withTold } from "./mailbox.ts";
import { remember } from "./memory.ts";
import type { Host } from "./ports.ts";
import type { RunEnd } from "./run.ts";
import { isInWindow } from "./settings-values.ts";
import type { Journal, PendingBoot } from "./state.ts";

/** After a boot: whether the host came up with what was set up for it, and is well. Null: nothing to check. */
export async function checkBoot(context: Context): Promise<Omit<RunEnd, "wanted"> | null> {
  const { host, keeper } = context;
  const { pendingBoot } = keeper.state;
  if (!pendingBoot || isWaitingForBoot(host, pendingBoot)) return null;
  const { target, before } = pendingBoot;
  if (host.view().profilePath !== target.storePath) {
    // Somebody has set up another system since; what was booted is theirs to judge.
    keeper.update((state) => ({ ...state, pendingBoot: null }));
    return null;
  }
  const about = { goal: "boot-check", phase: "checking", cause: null, mode: "switch", target, before } as const;
  const journal = { ...newJournal(context, about), failedUnitsBefore: pendingBoot.failedUnitsBefore };
  if (host.view().runningPath !== target.storePath) return bootedOther(context, journal);
  keeper.update((state) => ({ ...state, pendingBoot: null, journal }));
  return runJournal(context, journal, []);
}

/**
 * The boot loader fell back, or somebody chose another system: trying again would only reboot again. What was set up is
 * not to be the default of the next boot either, nor what a later failure goes back to.
 */
async function bootedOther(context: Context, journal: Journal): Promise<Outcome> {
  const { host, keeper, clock, settings } = context;
  const running = host.view().runningPath ?? "another system";
  const reason = `${journal.target.storePath} was set up for the boot, but the host runs ${running}`;
  const outcome: Outcome = { end: "booted-other", reason, failedUnits: [], verdict: "bad", keepJournal: false };
  // As the deployment that set it up would be undone: for the boot alone.
  const undoing = { ...journal, goal: "deploy", mode: "boot" } as const;
  const step = undo(undoing, { end: outcome.end, reason, failedUnits: [] }, settings.rollback);
  const state = keeper.update((known) => {
    const checked = withTold(context, known, journal, { step: "checking", health: "unknown" });
    const failed = { step: "failed", health: "unknown", reason } as const;
    const told = withTold(context, checked, checked.journal ?? journal, failed);
    const now = { at: timeText(clock), bootId: host.bootId() };
    if (step.kind === "end") return remember(told, { journal, outcome }, now);
    const sequence = told.journal?.sequence ?? journal.sequence;
    return { ...told, pendingBoot: null, journal: { ...step.journal, sequence } };
  });
  if (state.journal) return runJournal(context, state.journal, []);
  await sendReports(context);
  return outcome;
}

/**
 * Tells the host to reboot when it should and may now. Null: not needed, or not now; the next run looks again. Only for
 * systems that the agent set up: a kernel that somebody installed by hand is theirs to boot. Nor into what the server
 * holds back by now, unless it is forced.
 */
export async function rebootWhenNeeded(
  context: Context,
  { force }: Wishes,
): Promise<Pick<RunEnd, "end" | "reason"> | null> {
  const { host, keeper, narrator, clock, settings } = context;
  if (settings.reboot === "never" || keeper.state.journal) return null;
  const pending = bootToCome(context);
  if (!pending) return null;
  if (keeper.state.isNextBootHeld && !force) {
    narrator.info("a reboot is needed and waits: the server holds back what it leads to");
    return null;
  }
  const now = new Date(clock.now());
  if (!isInWindow(settings.rebootWindow, now.getHours() * 60 + now.getMinutes())) {
    narrator.info("a reboot is needed and waits for its window");
    return null;
  }
  const busy = await host.busyReason("reboot");
  if (busy !== null) {
    narrator.info(`a reboot is needed and waits: ${busy}`);
    return null;
  }
  const failedUnitsBefore = pending.failedUnitsBefore ?? (await host.failedUnits());
  keeper.update((state) => ({ ...state, pendingBoot: { ...pending, failedUnitsBefore } }));
  await sendReports(context);
  const trouble = await host.reboot();
  if (trouble !== null) return { end: "reboot-failed", reason: trouble };
  return { end: "rebooting", reason: `into ${pending.target.storePath}` };
}

/** What the next boot leads to, where it leads to something else than what runs. */
export function bootToCome({ host, keeper }: Pick<Context, "host" | "keeper">): PendingBoot | null {
  const { pendingBoot, deployed, before } = keeper.state;
  const view = host.view();
  if (pendingBoot && pendingBoot.target.storePath === view.profilePath) {
    return isWaitingForBoot(host, pendingBoot) ? pendingBoot : null;
  }
  if (!deployed || deployed.storePath !== view.profilePath || !host.needsReboot()) return null;
  return {
    target: deployed,
    before: before ?? view,
    mode: "switch",
    bootId: host.bootId() ?? "",
    failedUnitsBefore: null,
  };
}

/** Where boots have no name, what was set up has been booted when it runs. */
export function isWaitingForBoot(host: Host, { bootId, target }: PendingBoot): boolean {
  const present = host.bootId();
  if (present !== null && bootId !== "") return present === bootId;
  return host.view().runningPath !== target.storePath;
}

/** Remembers what the server said last of what the next boot leads to: a later run may reboot without asking it. */
export function noteWordOnBoot(context: Context, { state, build }: Wanted): void {
  const { keeper } = context;
  if (!build || bootToCome(context)?.target.storePath !== build.storePath) return;
  const isNextBootHeld = state === "held" || state === "waiting";
  if (isNextBootHeld !== keeper.state.isNextBootHeld) keeper.update((known) => ({ ...known, isNextBootHeld }));
}
