import type { Context } from "./context.ts";
import { timeText } from "./context.ts";
import { newJournal, runJournal } from "./journal-runner.ts";
import type { Outcome } from "./machine.ts";
import { sendReports, withTold } from "./mailbox.ts";
import { remember } from "./memory.ts";
import type { RunEnd } from "./run.ts";
import { isInWindow } from "./settings-values.ts";
import type { PendingBoot } from "./state.ts";

/** After a boot: whether the host came up with what was set up for it, and is well. Null: nothing to check. */
export async function checkBoot(context: Context): Promise<Omit<RunEnd, "wanted"> | null> {
  const { host, keeper } = context;
  const { pendingBoot } = keeper.state;
  if (!pendingBoot || pendingBoot.bootId === host.bootId()) return null;
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

/** The boot loader fell back, or somebody chose another system: trying again would only reboot again. */
async function bootedOther(context: Context, journal: ReturnType<typeof newJournal>): Promise<Outcome> {
  const { host, keeper, clock } = context;
  const running = host.view().runningPath ?? "another system";
  const outcome: Outcome = {
    end: "booted-other",
    reason: `${journal.target.storePath} was set up for the boot, but the host runs ${running}`,
    failedUnits: [],
    verdict: "bad",
    keepJournal: false,
  };
  keeper.update((state) => {
    const checked = withTold(context, state, journal, { step: "checking", health: "unknown" });
    const told = withTold(context, checked, checked.journal ?? journal, {
      step: "failed",
      health: "unknown",
      reason: outcome.reason,
    });
    return remember(told, { journal, outcome }, { at: timeText(clock), bootId: host.bootId() });
  });
  await sendReports(context);
  return outcome;
}

/**
 * Tells the host to reboot when it should and may now. Null: not needed, or not now; the next run looks again. Only for
 * systems that the agent set up: a kernel that somebody installed by hand is theirs to boot.
 */
export async function rebootWhenNeeded(context: Context): Promise<Pick<RunEnd, "end" | "reason"> | null> {
  const { host, keeper, narrator, clock, settings } = context;
  if (settings.reboot === "never" || keeper.state.journal) return null;
  const pending = bootToCome(context);
  if (!pending) return null;
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
  const bootId = host.bootId() ?? "";
  const view = host.view();
  if (pendingBoot && pendingBoot.target.storePath === view.profilePath) {
    return pendingBoot.bootId === bootId ? pendingBoot : null;
  }
  if (!deployed || deployed.storePath !== view.profilePath || !host.needsReboot()) return null;
  return { target: deployed, before: before ?? view, mode: "switch", bootId, failedUnitsBefore: null };
}
