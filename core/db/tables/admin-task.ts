import type { ColumnType, Generated, Selectable } from "kysely";

type Json = ColumnType<Readonly<Record<string, unknown>> | null, string | null | undefined, string | null>;

export interface AdminTaskTable {
  id: string;
  kind: string;
  /** `AdminTaskStatus`. */
  status: Generated<number>;
  created_by: string | null;
  created_at: ColumnType<Date, Date | undefined, never>;
  started_at: Date | null;
  finished_at: Date | null;
  parameters: ColumnType<Readonly<Record<string, unknown>>, string, string>;
  progress: Json;
  report: Json;
  error: string | null;
  cancel_wanted: Generated<boolean>;
}
export type AdminTaskRow = Selectable<AdminTaskTable>;
