const PREFIX = "GRADIENT_";

/** Options that this release of the worker acts on. */
export const OPTION_NAMES: readonly string[] = [
  "WORKER_SERVER_URL",
  "WORKER_PEERS",
  "WORKER_PEERS_FILE",
  "WORKER_DATA_DIR",
  "WORKER_ID",
  "WORKER_GCROOTS_DIR",
  "WORKER_EVAL_WORKERS",
  "WORKER_EVAL_ATTRIBUTE_TIMEOUT_SECS",
  "WORKER_MAX_REPOSITORY_BYTES",
  "WORKER_SSH_KNOWN_HOSTS_FILE",
  "MAX_EVALUATIONS_PER_WORKER",
  "BINPATH_SSH",
  "BINPATH_NIX_EVAL_JOBS",
  "WORKER_CAPABILITY_FETCH",
  "WORKER_CAPABILITY_EVAL",
  "WORKER_CAPABILITY_BUILD",
  "WORKER_CAPABILITY_SIGN",
  "WORKER_CAPABILITY_FEDERATE",
  "WORKER_DOWNSTREAMS_FILE",
  "WORKER_SIGNING_KEY_FILE",
  "WORKER_SHARED_STORE",
  "WORKER_MAX_BUILD_CORES",
  "WORKER_BUILD_METRICS",
  "WORKER_BUILD_CGROUP_ROOT",
  "LOG_BURST_BYTES_PER_MIN",
  "LOG_SUSTAINED_BYTES_PER_HOUR",
  "WORKER_DISCOVERABLE",
  "WORKER_LISTEN_ADDR",
  "WORKER_PORT",
  "MAX_PROTO_CONNECTIONS",
  "WORKER_ALLOW_LOCAL_SOURCES",
  "WORKER_EVALUATOR_USER",
  "WORKER_ARCHITECTURES",
  "WORKER_SYSTEM_FEATURES",
  "BINPATH_NIX",
  "MAX_EVAL_RSS",
  "MAX_CONCURRENT_EVALUATIONS",
  "MAX_CONCURRENT_BUILDS",
  "MAX_NIXDAEMON_CONNECTIONS",
  "LOG_LEVEL",
  "EVAL_LOG_LEVEL",
  "BUILD_LOG_LEVEL",
  "PROTO_LOG_LEVEL",
].map((name) => PREFIX + name);

/** Set by our own scripts, and the server's own: both may share one environment. */
const FOREIGN = [
  /^GRADIENT_(?:INVOKED_FROM|TEST_|IP$|PORT$|SERVE_URL|FRONTEND_URL|BASE_PATH|DATABASE_|JWT_|CRYPT_|STATE_FILE)/,
  /^GRADIENT_(?:DISCOVERABLE|ENABLE_|CREATE_|MAX_|NAR_|KEEP_|BUILD_(?:MAX|RETRY|DEFAULT)_|TRUSTED_|LOCAL_|WEB_)/,
  /^GRADIENT_(?:CACHE_|SCHEDULER_|ALLOW_LOCAL_SOURCES|WORKER_HEARTBEAT_|EVALUATION_)/,
];

/** Edits up to which a name counts as a slip of a known one. */
const DISTANCE_MAX = 6;

/** One warning for each `GRADIENT_*` name that nothing reads, with the nearest one that is read. */
export function unknownNameWarnings(environment: Readonly<Record<string, string | undefined>>): string[] {
  return Object.keys(environment)
    .filter((name) => name.startsWith(PREFIX) && !OPTION_NAMES.includes(name) && !isForeign(name))
    .sort()
    .map((name) => {
      const nearest = nearestName(name);
      return `${name} is not an option of this worker${nearest ? `; did you mean ${nearest}?` : ""}`;
    });
}

/** A slip of a name of ours is worth a warning even where it looks like one of the server's. */
function isForeign(name: string): boolean {
  if (!FOREIGN.some((pattern) => pattern.test(name))) return false;
  return !OPTION_NAMES.some((known) => editDistance(name, known) <= 2);
}

function nearestName(name: string): string | null {
  const byDistance = OPTION_NAMES.map((known) => ({ known, distance: editDistance(name, known) }));
  const best = byDistance.reduce((a, b) => (b.distance < a.distance ? b : a));
  return best.distance <= Math.min(DISTANCE_MAX, (name.length - PREFIX.length) / 2) ? best.known : null;
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
