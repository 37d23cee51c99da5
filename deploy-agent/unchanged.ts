import { uuidV7 } from "#core/lib/ids.ts";
import { type Context, InterruptedError, timeText } from "./context.ts";
import type { Decision, Wanted, WantedBuild } from "./decide.ts";
import { ENDS } from "./ends.ts";
import { examine, type Finding } from "./health.ts";
import { mayReport } from "./mailbox.ts";
import { withReport } from "./reports.ts";
import type { SystemView } from "./state.ts";

type Unchanged = Extract<Decision, { readonly kind: "end" }>;

/** How these runs ended says nothing of the system; `gradient-deploy-watch` does: a new system may have broken it. */
const OWN_UNITS = ["gradient-deploy.service", "gradient-deploy-resume.service"];

/**
 * The end of a run that found nothing to deploy. Where the wanted system runs, the host is looked at once, and the
 * server is told whether it is well: a build soaks on hosts that stay healthy, not on those that were so once. Nothing
 * is undone: what goes wrong later is not the switch's doing.
 */
export async function endUnchanged(
  context: Context,
  wanted: Wanted,
  { decision, view, tells }: { readonly decision: Unchanged; readonly view: SystemView; readonly tells: boolean },
): Promise<{ readonly reason: string | null; readonly failedUnits: readonly string[] }> {
  const finding = decision.end === "up-to-date" && wanted.build ? await look(context, wanted.build) : null;
  const reason = decision.reason ?? unhealthyWords(finding);
  const failedUnits = finding?.failedUnits ?? [];
  if (finding && finding.problems.length > 0) context.narrator.warn(`the host is not healthy: ${reason}`);
  if (tells) tell(context, wanted, { end: decision.end, reason, finding, view });
  return { reason, failedUnits };
}

function unhealthyWords(finding: Finding | null): string | null {
  return finding && finding.problems.length > 0 ? finding.problems.join("; ") : null;
}

/** Also remembers what was there already as deployed: an older build is offered in vain from now on. */
async function look(context: Context, build: WantedBuild): Promise<Finding> {
  const { host, keeper, settings, signal } = context;
  const { storePath, buildId, evaluationId, order, commit } = build;
  const { deployed, order: orderBefore, pendingBoot, deployedFailedUnits } = keeper.state;
  const known = deployed?.storePath === storePath ? deployedFailedUnits : null;
  // Of a system that came otherwise, what has failed by the first look is what had failed before.
  const failedUnitsBefore = known ?? (settings.healthUnits ? await host.failedUnits() : null);
  const isKnown = deployed?.storePath === storePath && deployed.order === order && orderBefore === order;
  if (!isKnown || failedUnitsBefore !== deployedFailedUnits) {
    keeper.update((state) => ({
      ...state,
      order: Math.max(order, state.order ?? order),
      deployed: pendingBoot ? state.deployed : { storePath, buildId, evaluationId, order, commit },
      deployedFailedUnits: pendingBoot ? state.deployedFailedUnits : failedUnitsBefore,
    }));
  }
  const finding = await examine(context, { failedUnitsBefore, ignored: OWN_UNITS, hasAnswered: true });
  if (signal.aborted) throw new InterruptedError("interrupted while looking at the host's health");
  return finding;
}

/** "I am here, this is what I run, and this is how I am." */
function tell(
  context: Context,
  { build }: Wanted,
  about: Pick<Unchanged, "end" | "reason"> & { readonly finding: Finding | null; readonly view: SystemView },
): void {
  const { keeper, settings, clock, random } = context;
  const { end, reason, finding, view } = about;
  if (!mayReport(context, keeper.state)) return;
  const seen = finding && (finding.problems.length === 0 ? "healthy" : "unhealthy");
  keeper.update((state) => ({
    ...state,
    reports: withReport(state.reports, {
      runId: uuidV7(clock.now(), random),
      sequence: 0,
      step: "unchanged",
      mode: settings.mode,
      buildId: build?.buildId ?? null,
      storePath: build?.storePath ?? null,
      view,
      health: seen ?? "unknown",
      reason,
      failedUnits: finding?.failedUnits ?? [],
      exitCode: ENDS[end].exitCode,
      happenedAt: timeText(clock),
    }),
  }));
}
