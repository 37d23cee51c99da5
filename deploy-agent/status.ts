import type { Context } from "./context.ts";
import { bootToCome } from "./reboot.ts";
import { AGENT_VERSION } from "./version.ts";

/** What `status --json` prints. Paths are store paths; times are RFC 3339. */
export function statusOf({ host, keeper }: Pick<Context, "host" | "keeper">) {
  const { state } = keeper;
  const view = host.view();
  const { journal } = state;
  const next = bootToCome({ host, keeper });
  return {
    agent_version: AGENT_VERSION,
    source: state.source,
    running_path: view.runningPath,
    booted_path: view.bootedPath,
    profile_path: view.profilePath,
    generation: view.generation,
    deployed: state.deployed && {
      store_path: state.deployed.storePath,
      build_id: state.deployed.buildId,
      evaluation_id: state.deployed.evaluationId,
      order: state.deployed.order,
      commit: state.deployed.commit,
    },
    rollback_path: state.before?.profilePath ?? host.generationBefore()?.systemPath ?? null,
    next_boot_path: next?.target.storePath ?? null,
    order: state.order,
    in_progress: journal && {
      run_id: journal.runId,
      phase: journal.phase,
      mode: journal.mode,
      store_path: journal.target.storePath,
      started_at: journal.startedAt,
      undone_because: journal.cause?.reason ?? null,
    },
    bad_builds: state.bad.map(({ storePath, buildId, reason, at }) => ({
      store_path: storePath,
      build_id: buildId || null,
      reason,
      at,
    })),
    unsent_reports: state.reports.length,
    may_report: !state.toldNoPermission,
    last_run: state.lastRun && {
      end: state.lastRun.end,
      exit_code: state.lastRun.exitCode,
      reason: state.lastRun.reason,
      finished_at: state.lastRun.finishedAt,
    },
  };
}

export function statusText(status: ReturnType<typeof statusOf>): string {
  const { deployed, in_progress: now, last_run: last } = status;
  const lines: readonly (readonly [string, string | null])[] = [
    ["running", status.running_path],
    ["profile", status.profile_path && `${status.profile_path} (generation ${status.generation ?? "unknown"})`],
    ["deployed", deployed && `commit ${deployed.commit}, build ${deployed.build_id}`],
    ["rollback to", status.rollback_path],
    ["next boot", status.next_boot_path],
    ["in progress", now && `${now.phase} of ${now.store_path} since ${now.started_at}`],
    ["being undone", now?.undone_because ?? null],
    ["bad builds", status.bad_builds.length === 0 ? null : String(status.bad_builds.length)],
    ["not yet told", status.unsent_reports === 0 ? null : `${status.unsent_reports} reports`],
    ["last run", last && `${last.end} at ${last.finished_at}${last.reason ? `: ${last.reason}` : ""}`],
  ];
  return lines.flatMap(([name, value]) => (value ? [`${name.padEnd(14)}${value}\n`] : [])).join("");
}
