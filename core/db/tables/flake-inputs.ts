import type { ColumnType, Generated, Selectable } from "kysely";

export interface ProjectFlakeInputTable {
  id: string;
  project_id: string;
  /** A name, or a pattern of names. */
  input_name: string;
  /** Null: the newest state of what the flake itself names. */
  url: string | null;
  created_at: ColumnType<Date, never, never>;
  updated_at: Generated<Date>;
}
export type ProjectFlakeInputRow = Selectable<ProjectFlakeInputTable>;

/** An input that is not what the flake's lock says. */
export interface InputOverride {
  readonly input: string;
  readonly url: string | null;
}

/** A flake that was put into the organization's internal store, with what its evaluation reads. */
export interface FetchedSource {
  readonly reference: string;
  readonly wrapped: boolean;
  /** Full store paths. */
  readonly paths: readonly string[];
}
