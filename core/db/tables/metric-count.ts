import type { Generated } from "kysely";

/** One addition to a count; the sum of a name's rows is what counts. */
export interface MetricCountTable {
  id: Generated<number>;
  /** `build.<status>`, `evaluation.<status>`, `nar.requests`, `nar.bytes`. */
  name: string;
  value: number;
}
