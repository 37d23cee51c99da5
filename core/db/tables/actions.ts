import type { ColumnType, Generated, Selectable } from "kysely";

/** An action's settings as the API knows them, every default filled in, without their type and without secrets. */
export type StoredActionConfig = Readonly<Record<string, unknown>>;

export interface ProjectActionTable {
  id: string;
  project_id: string;
  name: string;
  /** A number of `ACTION_TYPES`. */
  type: number;
  config: ColumnType<StoredActionConfig, string, string>;
  /** Sealed for this row. */
  token: Uint8Array | null;
  events: Generated<string[]>;
  active: Generated<boolean>;
  last_fired_at: Date | null;
  /** How often in a row a delivery failed that is tried again. */
  failures: Generated<number>;
  /** Until then none of it is tried. */
  paused_until: Date | null;
  created_by: string | null;
  created_at: ColumnType<Date, never, never>;
  updated_at: Generated<Date>;
}
export type ProjectActionRow = Selectable<ProjectActionTable>;

/** What happened. The numbers of states are those of the database. */
export interface EventFacts {
  readonly evaluation_id: string;
  readonly project_id: string;
  readonly repository: string;
  readonly kind: number;
  readonly status: number;
  /** Of a build: what the API calls it, and the base name of its derivation. */
  readonly build_id?: string;
  readonly derivation?: string;
}

export interface ActionDeliveryTable {
  id: string;
  action_id: string;
  event: string;
  facts: ColumnType<EventFacts, string, never>;
  created_at: Generated<Date>;
  due_at: Generated<Date>;
  attempts: Generated<number>;
  /** When it was over, well or not; null while it waits. */
  delivered_at: Date | null;
  success: Generated<boolean>;
  request_body: Generated<string>;
  response_status: number | null;
  response_body: string | null;
  error_message: string | null;
  duration_ms: number | null;
}

export interface ActionWatchTable {
  evaluation_id: string;
  looked_at: Generated<Date>;
}

export interface ActionToldBuildTable {
  evaluation_build_id: string;
  status: number;
}
