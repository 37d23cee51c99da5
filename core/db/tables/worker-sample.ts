import type { ColumnType } from "kysely";

/** How a worker's machine was doing. Null is what cannot be told there. */
export interface WorkerSample {
  /** Of all processors together, from 0 to 100. */
  readonly cpu_usage_pct: number;
  readonly ram_free_mb: number;
  readonly ram_total_mb: number;
  /** What went through in megabits a second. */
  readonly disk_speed_mbps: number | null;
  readonly network_speed_mbps: number | null;
  /** Attempts that it held, by their organization: nobody is shown those of others. */
  readonly assigned: Readonly<Record<string, number>>;
  readonly max_concurrent_builds: number;
  readonly state: "active" | "idle" | "draining";
}

export interface WorkerSampleTable {
  connection_id: string;
  at: ColumnType<Date, Date | undefined, never>;
  metrics: ColumnType<WorkerSample, string, never>;
}

/** Columns of a registration that say when its worker is dialled next. */
export interface DialState {
  /** No server dials the worker before. */
  dial_after: ColumnType<Date | null, Date | null | undefined, Date | null>;
  dial_failures: ColumnType<number, number | undefined, number>;
  /** Why the last try failed. */
  dial_error: ColumnType<string | null, string | null | undefined, string | null>;
}
