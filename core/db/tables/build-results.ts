/** A file or folder that a build offers for download. */
export interface BuildProductTable {
  build_id: string;
  /** As the build listed them, from 0. */
  ordinal: number;
  /** The name of the output that lists it. */
  output: string;
  type: string;
  subtype: string;
  name: string;
  /** Without the store folder: the base name of one of the build's outputs, and names below it. */
  path: string;
  /** Bytes; null for a folder. */
  size: number | null;
}

/** Columns of an attempt: what its build took. Null is what was not measured. */
export interface AttemptMetrics {
  /** How long the builder ran. */
  build_ms: number | null;
  cpu_user_ms: number | null;
  cpu_system_ms: number | null;
  peak_memory_bytes: number | null;
  io_read_bytes: number | null;
  io_write_bytes: number | null;
}
