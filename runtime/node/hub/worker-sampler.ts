import { forgetWorkerSamples, recordWorkerSamples, type SampleOfSession } from "#core/db/worker-samples.ts";
import { DAY, HOUR } from "#core/lib/clock.ts";
import type { HubDeps } from "./deps.ts";
import type { WorkerSession } from "./session.ts";

const KEEP_MS: number = 14 * DAY;

/** Keeps what the workers of this server measure, all of them with one statement, however often they send it. */
export class WorkerSampler {
  readonly #deps: Pick<HubDeps, "db" | "clock">;
  readonly #sessions: () => Iterable<WorkerSession>;
  #forgottenAtMs = Number.NEGATIVE_INFINITY;

  constructor(deps: Pick<HubDeps, "db" | "clock">, sessions: () => Iterable<WorkerSession>) {
    this.#deps = deps;
    this.#sessions = sessions;
  }

  async sample(): Promise<void> {
    const samples = [...this.#sessions()].flatMap((session) => sampleOf(session) ?? []);
    await recordWorkerSamples(this.#deps.db, samples);
    const now = this.#deps.clock.monotonic();
    if (now - this.#forgottenAtMs < HOUR) return;
    this.#forgottenAtMs = now;
    await forgetWorkerSamples(this.#deps.db, KEEP_MS);
  }
}

function sampleOf({ id, jobs, connection }: WorkerSession): SampleOfSession | null {
  if (!jobs?.metrics || connection.closed) return null;
  const { cpu_usage_pct, ram_free_mb, disk_speed_mbps, network_speed_mbps } = jobs.metrics;
  const { ram_total_mb, groups, draining } = jobs.description;
  const assigned = jobs.attempts.countByOrganization();
  const busy = Object.keys(assigned).length > 0;
  return {
    connectionId: id,
    sample: {
      cpu_usage_pct,
      ram_free_mb,
      ram_total_mb,
      disk_speed_mbps,
      network_speed_mbps,
      assigned,
      max_concurrent_builds: groups.reduce((sum, group) => sum + group.max_concurrent_builds, 0),
      state: draining ? "draining" : busy ? "active" : "idle",
    },
  };
}
