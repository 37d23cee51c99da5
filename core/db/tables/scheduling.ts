import type { Generated } from "kysely";

/** What builds of a package took lately in an organization, by system. */
export interface BuildHistoryTable {
  organization_id: string;
  system: string;
  /** The derivation's name without its version: `gradient_package_name(name)`. */
  package_name: string;
  /** Newest last, at most 16. */
  durations_ms: number[];
  /** Of the last build that was measured. */
  peak_memory_mb: number | null;
  updated_at: Generated<Date>;
}

/** One row: what holds for all servers on the database. */
export interface SchedulerStateTable {
  id: Generated<number>;
  /** Nothing new is given out. */
  draining_since: Date | null;
  /** Builds that ended before are in the history. */
  history_until: Generated<Date>;
}

/**
 * Why an attempt went to its worker, as `attempt.score` keeps it. The points of each rule of
 * `core/domain/scheduling/rules.ts` that had any, and what they were given for.
 */
export interface DispatchScore {
  readonly total: number;
  readonly rules: Readonly<Record<string, number>>;
  readonly job: Readonly<Record<string, number | boolean | null>>;
  readonly worker: Readonly<Record<string, number | boolean | null>>;
  readonly instance: Readonly<Record<string, number>>;
}
