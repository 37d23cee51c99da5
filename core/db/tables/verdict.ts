import type { ColumnType, Generated } from "kysely";
import type { Verdict } from "../../domain/verdict.ts";

/** Of an evaluation that has ended. */
export interface EvaluationVerdictTable {
  evaluation_id: string;
  /** The evaluation before it that it is compared with; it may be gone. */
  base_id: string | null;
  ended_at: Generated<Date>;
  /** Null until it is written down; it does not change any more then. */
  record: ColumnType<Verdict | null, string | null | undefined, string>;
}

/** An input as a lock file names it. */
export interface LockedInput {
  readonly name: string;
  /** What is locked, without its revision: `github:NixOS/nixpkgs`, or a URL. */
  readonly source: string;
  readonly revision: string | null;
  /** Seconds since 1970. */
  readonly last_modified: number | null;
}
