import type { WorkerMetrics } from "#core/protocol/worker-messages.ts";
import type { RelayedWorker } from "./relayed-worker.ts";

/** The machines of these workers as if they were one. Null when none of them has measured anything. */
export function sumMetrics(workers: readonly Pick<RelayedWorker, "metrics" | "description">[]): WorkerMetrics | null {
  const measured = workers.flatMap(({ metrics, description }) =>
    metrics ? [{ metrics, cpus: Math.max(1, description.cpu_count) }] : [],
  );
  if (measured.length === 0) return null;
  const sum = (value: (one: (typeof measured)[number]) => number) => measured.reduce((all, one) => all + value(one), 0);
  const speed = (name: "disk_speed_mbps" | "network_speed_mbps") =>
    measured.every(({ metrics }) => metrics[name] === null) ? null : sum(({ metrics }) => metrics[name] ?? 0);
  return {
    type: "worker_metrics",
    cpu_usage_pct: Math.min(100, sum(({ metrics, cpus }) => metrics.cpu_usage_pct * cpus) / sum(({ cpus }) => cpus)),
    ram_free_mb: sum(({ metrics }) => metrics.ram_free_mb),
    disk_speed_mbps: speed("disk_speed_mbps"),
    network_speed_mbps: speed("network_speed_mbps"),
  };
}
