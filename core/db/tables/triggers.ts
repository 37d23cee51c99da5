import type { ColumnType, Generated, Selectable } from "kysely";

/** A trigger's settings as the API knows them, every default filled in, without their type. */
export type StoredTriggerConfig = Readonly<Record<string, unknown>>;

export interface ProjectTriggerTable {
  id: string;
  project_id: string;
  /** A number of `TriggerType`. */
  type: number;
  config: ColumnType<StoredTriggerConfig, string, string>;
  active: Generated<boolean>;
  /** Whoever changes the row counts it up: what was decided on an older row is dropped. */
  revision: Generated<number>;
  /** When it is looked at next; null where something else has to happen. */
  due_at: Date | null;
  /** The last commit that it evaluated, or found evaluated. */
  last_commit: string | null;
  last_checked_at: Date | null;
  last_fired_at: Date | null;
  /** Why it could not be looked at, until it could. */
  last_error: string | null;
  /** How often in a row that was so. */
  failures: Generated<number>;
  created_at: ColumnType<Date, never, never>;
  updated_at: Generated<Date>;
}
export type ProjectTriggerRow = Selectable<ProjectTriggerTable>;
