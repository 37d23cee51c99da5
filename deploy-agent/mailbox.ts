import type { Context } from "./context.ts";
import { timeText } from "./context.ts";
import { ServerError } from "./ports.ts";
import { type Health, type ReportStep, withReport } from "./reports.ts";
import { type AgentState, confirmBad, type Journal, type QueuedReport } from "./state.ts";

export interface Telling {
  readonly step: ReportStep;
  readonly health: Health;
  readonly reason?: string | null;
  readonly failedUnits?: readonly string[];
  readonly exitCode?: number | null;
}

/** The state with a report of a deployment to send, and the journal that counts it. */
export function withTold(context: Context, state: AgentState, journal: Journal, telling: Telling): AgentState {
  const counted = { ...journal, sequence: journal.sequence + 1 };
  if (!mayReport(context, state)) return { ...state, journal: counted };
  const reports = withReport(state.reports, {
    ...telling,
    runId: journal.runId,
    sequence: journal.sequence,
    mode: journal.mode,
    // Empty where an operator goes back from a system that no server built.
    buildId: journal.target.buildId || null,
    storePath: journal.target.storePath || null,
    view: context.host.view(),
    happenedAt: timeText(context.clock),
  });
  return { ...state, journal: counted, reports };
}

export function mayReport({ settings }: Context, { toldNoPermission }: AgentState): boolean {
  return settings.report && !toldNoPermission;
}

/**
 * Answers that no repetition makes better. Not 404 and 409: a proxy may say so, a host may be forgotten at this moment,
 * and the next evaluation may name it.
 */
const REFUSED_FOR_EVER: ReadonlySet<number> = new Set([400, 413, 422]);

/**
 * Sends what is left, in order, as far as the server takes it. What it refuses is said once more without its text: that
 * a build failed is worth more than why. Never throws: the rest stays for another time.
 */
export async function sendReports(context: Context): Promise<void> {
  const { keeper, server, narrator } = context;
  if (!context.settings.report) return;
  while (keeper.state.reports.length > 0) {
    const [report] = keeper.state.reports as [QueuedReport];
    try {
      await server.report(report.body);
      strikeOff(context, report);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      if (error.status === 403) return withoutPermission(context);
      if (error.status === null || !REFUSED_FOR_EVER.has(error.status)) {
        narrator.warn(`a report could not be sent and is kept: ${error.message}`);
        return;
      }
      narrator.warn(`the server refused a report: ${error.message}`);
      keeper.updateLater((state) => (hasText(report) ? withBare(state, report) : without(state, report)));
    }
  }
}

/**
 * A report that was sent and is still in the file is sent again, which the server knows by its number: that is no
 * reason to wait for the disk. That the server knows of a failure is.
 */
function strikeOff({ keeper }: Context, report: QueuedReport): void {
  const { step, store_path } = report.body;
  if (step === "failed" || step === "rolled_back") {
    keeper.update((state) => confirmBad(without(state, report), store_path));
  } else keeper.updateLater((state) => without(state, report));
}

/** Others may have been put there or given way meanwhile. */
function without(state: AgentState, report: QueuedReport): AgentState {
  return { ...state, reports: state.reports.filter((one) => one !== report) };
}

function hasText({ body }: QueuedReport): boolean {
  return body.reason !== null || !Array.isArray(body.failed_units) || body.failed_units.length > 0;
}

/** The report without what a command, a unit or a server has worded. */
function withBare(state: AgentState, report: QueuedReport): AgentState {
  const bare = { ...report, body: { ...report.body, reason: null, failed_units: [] } };
  return { ...state, reports: state.reports.map((one) => (one === report ? bare : one)) };
}

/** Said once; the host does not depend on it. */
export function withoutPermission({ keeper, narrator }: Context): void {
  if (keeper.state.toldNoPermission) return;
  narrator.warn(
    "this API key may not report to the server (permission reportDeployments), so the server does not show what this " +
      "host runs; deployments go on",
  );
  keeper.update((state) => ({ ...state, toldNoPermission: true, reports: [] }));
}

/** The key may report (again). */
export function withPermission({ keeper }: Context): void {
  if (keeper.state.toldNoPermission) keeper.update((state) => ({ ...state, toldNoPermission: false }));
}
