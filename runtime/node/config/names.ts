const PREFIX = "GRADIENT_";

/** Options that this release acts on. */
const KNOWN = [
  "IP",
  "PORT",
  "SERVE_URL",
  "BASE_PATH",
  "DATABASE_URL",
  "DATABASE_URL_FILE",
  "DATABASE_MAX_CONNECTIONS",
  "DATABASE_MIN_CONNECTIONS",
  "DATABASE_WEB_MAX_CONNECTIONS",
  "DATABASE_WEB_MIN_CONNECTIONS",
  "JWT_SECRET_FILE",
  "CRYPT_SECRET_FILE",
  "ENABLE_REGISTRATION",
  "CREATE_ORG",
  "CREATE_CACHE",
  "MAX_REQUEST_SIZE",
  "MAX_SOURCE_UPLOAD_SIZE",
  "MAX_NAR_UPLOAD_SIZE",
  "NAR_PARTIAL_TTL_SECS",
  "MAX_PROTO_CONNECTIONS",
  "DISCOVERABLE",
  "TRUSTED_PROXIES",
  "LOCAL_IPS",
  "LOG_LEVEL",
  "WEB_LOG_LEVEL",
  "CACHE_LOG_LEVEL",
  "PROTO_LOG_LEVEL",
  "SCHEDULER_LOG_LEVEL",
  "MAX_CONCURRENT_NAR_SERVES",
  "NAR_STORAGE_OPEN_TIMEOUT_SECS",
  "NAR_SEND_CHUNK_TIMEOUT_SECS",
  "MAX_NAR_BUFFER_BYTES",
  "WORKER_SAMPLE_INTERVAL",
  "KEEP_EVALUATIONS",
  "LOG_CHUNK_BYTES",
  "ALLOW_LOCAL_SOURCES",
  "BUILD_MAX_ATTEMPTS",
  "BUILD_RETRY_BACKOFF_SECS",
  "BUILD_DEFAULT_TIMEOUT_SECS",
  "BUILD_DEFAULT_MAX_SILENT_SECS",
  "WORKER_HEARTBEAT_TIMEOUT_SECS",
  "EVALUATION_TIMEOUT_SECS",
  "EVALUATION_MAX_ATTRIBUTES",
  "EVALUATION_MAX_DERIVATIONS",
  "EVALUATION_MAX_MESSAGES",
  "OUTBOUND_ALLOW",
  "OUTBOUND_PRIVATE",
  "UPSTREAM_QUERY_CONCURRENCY",
  "SHARED_STORAGE_PATH",
  "S3_BUCKET",
  "S3_REGION",
  "S3_ENDPOINT",
  "S3_ACCESS_KEY_ID",
  "S3_SECRET_ACCESS_KEY_FILE",
  "S3_PREFIX",
  "S3_VIRTUAL_HOSTED_STYLE",
  "S3_REDIRECT",
  "STORAGE_MOVING_TO",
  "NGINX_STORAGE_LOCATION",
  "REUSE_PORT",
  "GRAPH_CONSISTENCY_INTERVAL",
  "NAR_TTL_HOURS",
  "KEEP_ORPHAN_DERIVATIONS_HOURS",
  "NAR_UPLOAD_GRACE_HOURS",
  "CACHE_MAINTENANCE_INTERVAL_SECS",
  "SCRUB_BYTES_PER_SECOND",
  "SCRUB_INTERVAL_HOURS",
].map((name) => PREFIX + name);

/** Set by our own scripts and for workers that share the environment. */
const FOREIGN = /^GRADIENT_(?:INVOKED_FROM|TEST_|WORKER_|BINPATH_|EVAL_|BUILD_LOG_LEVEL$|BUILD_DIR$)/;

/** Edits up to which a name counts as a slip of a known one. */
const DISTANCE_MAX = 6;

/** One warning for each `GRADIENT_*` name that nothing reads, with the nearest one that is read. */
export function unknownNameWarnings(environment: Readonly<Record<string, string | undefined>>): string[] {
  const unknown = Object.keys(environment).filter(
    (name) => name.startsWith(PREFIX) && !KNOWN.includes(name) && !FOREIGN.test(name),
  );
  return unknown.sort().map((name) => {
    const nearest = nearestName(name);
    return `${name} is not an option of this server${nearest ? `; did you mean ${nearest}?` : ""}`;
  });
}

function nearestName(name: string): string | null {
  let best: { name: string; distance: number } | null = null;
  for (const known of KNOWN) {
    const distance = editDistance(name, known);
    if (!best || distance < best.distance) best = { name: known, distance };
  }
  return best && best.distance <= Math.min(DISTANCE_MAX, (name.length - PREFIX.length) / 2) ? best.name : null;
}

/** Levenshtein's distance: insertions, deletions and replacements. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((previous[j] as number) + 1, (row[j - 1] as number) + 1, replaced));
    }
    previous = row;
  }
  return previous[b.length] as number;
}
