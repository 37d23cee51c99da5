import type { ColumnType, Generated } from "kysely";

/** What is built: the derivation with the outputs that it needs in the place of the derivations that make them. */
export interface BuildResolutionTable {
  build_id: string;
  /** Base name. */
  drv_path: string;
  /** Null where the resolved derivation states the paths of its outputs. */
  realisation_hash: Uint8Array | null;
  aterm: Uint8Array;
}

/** Where an output is that has no path of its own, as a cache says it. It goes with the path. */
export interface RealisationTable {
  cache_id: string;
  derivation_hash: Uint8Array;
  output: string;
  /** The 32 characters of the store path's hash. */
  path_hash: string;
  /** Realisations of inputs that the output refers to, `sha256:<hex>!<output>`. */
  dependents: Generated<string[]>;
  /** Others', `name:base64`. */
  signatures: Generated<string[]>;
  created_at: ColumnType<Date, Date | undefined, never>;
}
