import type { ColumnType, Generated, GeneratedAlways, Selectable } from "kysely";
import type { NarFault, NarHealer } from "../../domain/nar-health.ts";

/** An object that was found damaged, once. One that is damaged now has one row without `healed_at`. */
export interface NarDamageTable {
  id: GeneratedAlways<number>;
  object_key: string;
  nar_hash: Uint8Array;
  fault: NarFault;
  message: string;
  found_at: ColumnType<Date, Date | undefined, never>;
  /** Repairs that were tried in vain. */
  attempts: Generated<number>;
  retry_at: Generated<Date>;
  /** Why the last repair was in vain. */
  problem: string | null;
  healed_at: Date | null;
  healed_by: NarHealer | null;
}
export type NarDamageRow = Selectable<NarDamageTable>;

/** By `IntegrityCount`: what `nar_damage` tells besides is to be added. */
export interface IntegrityCountTable {
  name: string;
  value: number;
}

export interface ScrubStateTable {
  singleton: Generated<boolean>;
  rows_after: string | null;
  rows_finished_at: Date | null;
}
