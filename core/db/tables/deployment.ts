import type { ColumnType, Generated, Selectable } from "kysely";

/** Where a system was built, as it was known when a host told of it: evaluations go, this stays. */
export interface BuiltSystem {
  /** What the API calls a build. */
  readonly build_id: string;
  readonly evaluation_id: string;
  /** The evaluation's place in their order. */
  readonly order: number;
  readonly commit: string;
  /** Its first line. */
  readonly commit_message: string;
  readonly branch: string | null;
}

/** A step of a run as it was told. */
export interface DeploymentStep {
  readonly sequence: number;
  /** An index into `DEPLOYMENT_STEPS`. */
  readonly step: number;
  /** Milliseconds. */
  readonly happened_at: number;
}

export interface HostTable {
  id: string;
  project_id: string;
  /** The attribute's name in `nixosConfigurations`. */
  name: string;
  first_seen_at: ColumnType<Date, never, never>;
  last_contact_at: Generated<Date>;
  /** Until then its systems stay in the caches, unless it is heard of again. */
  kept_until: Date;
  agent_version: Generated<string>;
  /** The report that the following is from. */
  run_id: string | null;
  sequence: Generated<number>;
  seen_at: Date | null;
  /** Base names. */
  running_path: string | null;
  booted_path: string | null;
  generation: number | null;
  /** An index into `HOST_HEALTH`. */
  health: Generated<number>;
  health_reason: string | null;
  failed_units: Generated<string[]>;
  /** Since when it has been healthy on the system that it runs. */
  healthy_since: Date | null;
  running_since: Date | null;
  running_system: ColumnType<BuiltSystem | null, string | null, string | null>;
}
export type HostRow = Selectable<HostTable>;

export interface HostPathTable {
  host_id: string;
  /** A number of `HOST_PATH_ROLE`. */
  role: number;
  /** Base name. */
  store_path: string;
  since: Generated<Date>;
}

export interface DeploymentTable {
  id: string;
  host_id: string;
  run_id: string;
  mode: number;
  step: number;
  sequence: number;
  health: number;
  reason: string | null;
  failed_units: string[];
  exit_code: number | null;
  agent_version: string;
  generation: number | null;
  /** Base name. */
  store_path: string | null;
  system: ColumnType<BuiltSystem | null, string | null, string | null>;
  steps: ColumnType<readonly DeploymentStep[], string, string>;
  /** It has kept what it brought from this host, and from others. */
  failed: Generated<boolean>;
  started_at: Generated<Date>;
  updated_at: Generated<Date>;
  ended_at: Date | null;
}
export type DeploymentRow = Selectable<DeploymentTable>;

export interface DeploymentHoldTable {
  id: string;
  project_id: string;
  /** Base name: it is kept from `failed_host` alone. Null: the commit is kept from all hosts. */
  store_path: string | null;
  commit_hash: string | null;
  evaluation_id: string | null;
  ordinal: number | null;
  /** The name of the host whose failure it comes from, which may be forgotten; null: somebody holds it. */
  failed_host: string | null;
  reason: string | null;
  held_by: string | null;
  created_at: ColumnType<Date, never, never>;
}
export type DeploymentHoldRow = Selectable<DeploymentHoldTable>;
