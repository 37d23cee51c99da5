import type { HostReportBody } from "#core/api/hosts.ts";
import { printable } from "./printable.ts";
import type { Mode } from "./settings.ts";
import type { Journal, Phase, QueuedReport, SystemView } from "./state.ts";
import { AGENT_VERSION } from "./version.ts";

export type ReportStep =
  | "started"
  | "downloading"
  | "activating"
  | "checking"
  | "succeeded"
  | "failed"
  | "rolled_back"
  | "unchanged";

export type Health = "healthy" | "unhealthy" | "unknown";

/** Those that were not sent while the server was away, some twenty deployments. */
export const REPORTS_MAX = 200;
const REASON_LENGTH_MAX = 4_096;
const FAILED_UNITS_MAX = 100;
const UNIT_LENGTH_MAX = 256;

export interface ReportFacts {
  readonly runId: string;
  readonly sequence: number;
  readonly step: ReportStep;
  readonly mode: Mode;
  readonly buildId: string | null;
  readonly storePath: string | null;
  readonly view: SystemView;
  readonly health: Health;
  readonly reason?: string | null;
  readonly failedUnits?: readonly string[];
  readonly exitCode?: number | null;
  readonly happenedAt: string;
}

/** The body as the server's schema has it. */
export function reportBody(facts: ReportFacts): Readonly<HostReportBody> {
  const { view } = facts;
  return {
    run_id: facts.runId,
    sequence: facts.sequence,
    step: facts.step,
    mode: facts.mode,
    build_id: facts.buildId,
    store_path: facts.storePath,
    running_path: view.runningPath,
    booted_path: view.bootedPath,
    generation: view.generation,
    health: facts.health,
    reason: facts.reason == null ? null : printable(facts.reason).slice(0, REASON_LENGTH_MAX),
    failed_units: (facts.failedUnits ?? [])
      .slice(0, FAILED_UNITS_MAX)
      .map((unit) => printable(unit).slice(0, UNIT_LENGTH_MAX)),
    exit_code: facts.exitCode ?? null,
    agent_version: AGENT_VERSION,
    happened_at: facts.happenedAt,
  };
}

const LAST_STEPS: ReadonlySet<ReportStep> = new Set(["succeeded", "failed", "rolled_back"]);

/**
 * With one more; the oldest steps give way, and last words only when there is nothing else. Of what only says how the
 * host is, the newest stands for those before it, or old good news would be taken for new when it is sent at last; not
 * for an illness that is over, through which no soak time goes on.
 */
export function withReport(reports: readonly QueuedReport[], facts: ReportFacts): readonly QueuedReport[] {
  const isStale = ({ body: { step, health } }: QueuedReport) =>
    facts.step === "unchanged" && step === "unchanged" && (health !== "unhealthy" || health === facts.health);
  const kept = reports.filter((report) => !isStale(report));
  const all = [...kept, { body: reportBody(facts), isLast: LAST_STEPS.has(facts.step) }];
  if (all.length <= REPORTS_MAX) return all;
  const first = all.findIndex(({ isLast }) => !isLast);
  return all.toSpliced(first === -1 || first === all.length - 1 ? 0 : first, 1);
}

/** What is told when the work of a phase begins. */
export function stepOfPhase(journal: Journal): ReportStep | null {
  const steps: Readonly<Record<Phase, ReportStep | null>> = {
    downloading: "downloading",
    // A profile that cannot be set says nothing of the build; the build counts as tried from the switch on.
    profile: null,
    switching: "activating",
    checking: "checking",
    "restoring-profile": null,
    "restoring-system": null,
  };
  return steps[journal.phase];
}
