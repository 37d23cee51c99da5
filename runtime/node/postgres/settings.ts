export interface PostgresSettings {
  /** Clients at the same time, all pools together. */
  readonly connectionsMax: number;
  /** False only in tests: a crash of the machine may then lose the database. */
  readonly durable: boolean;
}

/** For maintenance and the connection that listens for wake-ups. */
const CONNECTIONS_RESERVE = 8;

/** Command line options of PostgreSQL for a small instance that shares its machine with builds. */
export function settingArguments(socketFolder: string, settings: PostgresSettings, major: number): string[] {
  const values: Record<string, string> = {
    // A sandboxed fixed-output build reaches the host's loopback: no TCP at all.
    listen_addresses: "",
    unix_socket_directories: socketFolder,
    unix_socket_permissions: "0700",
    max_connections: String(settings.connectionsMax + CONNECTIONS_RESERVE),
    shared_buffers: "128MB",
    // The first change of a page after a checkpoint writes all of it: with half of this, a graph of 100,000 builds
    // wrote three quarters of its log for that.
    max_wal_size: "1GB",
    max_worker_processes: "4",
    autovacuum_max_workers: "2",
    // Parallel queries take segments of /dev/shm, which containers keep small, and the queries here are short.
    max_parallel_workers_per_gather: "0",
    max_parallel_maintenance_workers: "0",
    // Compiling a plan costs more than running it when every query is short.
    jit: "off",
    // For spinning disks it is 4, and a few hundred rows are looked for by reading their whole table: the end of a
    // build cost 1.5 times as much in a graph of 10,000, and twice where builds end a few at a time.
    random_page_cost: "1.1",
    timezone: "UTC",
    log_timezone: "UTC",
    log_destination: "stderr",
    logging_collector: "off",
    log_line_prefix: "",
    log_min_messages: "warning",
    ...(major >= 18 && { io_method: "sync" }),
    ...(!settings.durable && { fsync: "off", synchronous_commit: "off", full_page_writes: "off" }),
  };
  return Object.entries(values).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
}
