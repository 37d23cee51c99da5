/** One option of the server, or of the worker. */
export interface OptionRow {
  /** Its name below `services.gradient`, or its `worker`. Null: the modules have no option for it. */
  readonly option: string | null;
  /** Without `GRADIENT_`. */
  readonly variable: string;
  /** What holds where nobody sets it. Null: nothing does. */
  readonly default: string | null;
  /** Another value that it takes. */
  readonly other: string;
  /** The test that shows what it does. */
  readonly shown: string;
}

/** Stands for the path of a file with a secret in it. */
export const A_FILE = "<a file>";

type Row = readonly [OptionRow["option"], string, string | null, string, string];

const PLACES = "test/options/places.test.ts";
const GATES = "test/options/gates.test.ts";
const LOGS = "test/options/logs.test.ts";
const STORAGE = "test/options/storage.test.ts";
const WORKERS = "test/options/workers.test.ts";
const MAILS = "test/options/mail.test.ts";
const LIMITS = "test/runtime/limits.test.ts";
const OPTIONS = "test/runtime/options.test.ts";
const RETENTION = "test/runtime/retention.test.ts";
const MAIL_SERVER = "test/runtime/mail.test.ts";
const PROVIDER = "test/oidc/real-provider.test.ts";
const STATE = "test/state/server.test.ts";
const REPORTS = "test/runtime/error-reports.test.ts";
const BUCKETS = "test/e2e/storage-s3.test.ts";
const INTEGRITY = "runtime/node/integrity-loops.test.ts";

/** What the documentation's tables and examples say of the server. Defaults are those of the server itself. */
const DOCUMENTED: readonly Row[] = [
  ["domain", "SERVE_URL", "http://127.0.0.1:3000", "https://ci.example.org", PLACES],
  ["baseDir", "BASE_PATH", "data", "/srv/gradient", PLACES],
  ["listenAddr", "IP", "127.0.0.1", "::1", PLACES],
  ["port", "PORT", "3000", "3210", PLACES],
  ["jwtSecretFile", "JWT_SECRET_FILE", null, A_FILE, PLACES],
  ["cryptSecretFile", "CRYPT_SECRET_FILE", null, A_FILE, PLACES],
  ["metricsTokenFile", "METRICS_TOKEN_FILE", null, A_FILE, "test/runtime/metrics.test.ts"],
  ["databaseUrlFile", "DATABASE_URL_FILE", null, A_FILE, PLACES],
  ["databaseMaxConnections", "DATABASE_MAX_CONNECTIONS", "32", "40", OPTIONS],
  ["databaseMinConnections", "DATABASE_MIN_CONNECTIONS", "2", "3", OPTIONS],
  ["databaseWebMaxConnections", "DATABASE_WEB_MAX_CONNECTIONS", "16", "20", OPTIONS],
  ["databaseWebMinConnections", "DATABASE_WEB_MIN_CONNECTIONS", "1", "4", OPTIONS],
  ["reportErrors", "REPORT_ERRORS", "false", "true", REPORTS],
  ["settings.sentryDsn", "SENTRY_DSN", null, "https://0123@sentry.example.org/2", REPORTS],
  ["discoverable", "DISCOVERABLE", "true", "false", OPTIONS],
  ["settings.maxProtoConnections", "MAX_PROTO_CONNECTIONS", "256", "7", OPTIONS],
  ["settings.keepEvaluations", "KEEP_EVALUATIONS", "5", "9", RETENTION],
  ["settings.maxRequestSize", "MAX_REQUEST_SIZE", "2097152", "4096", LIMITS],
  ["settings.logLevel.default", "LOG_LEVEL", "info", "warn", LOGS],
  ["settings.logLevel.cache", "CACHE_LOG_LEVEL", null, "debug", LOGS],
  ["settings.logLevel.web", "WEB_LOG_LEVEL", null, "trace", LOGS],
  ["settings.logLevel.proto", "PROTO_LOG_LEVEL", null, "error", LOGS],
  ["settings.enableRegistration", "ENABLE_REGISTRATION", "true", "false", OPTIONS],
  ["settings.deleteState", "DELETE_STATE", "true", "false", STATE],
  ["settings.cacheTtlHours", "NAR_TTL_HOURS", "336", "0", RETENTION],
  ["settings.narStorageOpenTimeoutSecs", "NAR_STORAGE_OPEN_TIMEOUT_SECS", "60", "5", WORKERS],
  ["settings.narSendChunkTimeoutSecs", "NAR_SEND_CHUNK_TIMEOUT_SECS", "30", "6", WORKERS],
  ["settings.maxConcurrentNarServes", "MAX_CONCURRENT_NAR_SERVES", "8", "3", WORKERS],
  ["settings.maxNarBufferBytes", "MAX_NAR_BUFFER_BYTES", "10737418240", "2097152", WORKERS],
  ["settings.trustedProxies", "TRUSTED_PROXIES", "127.0.0.1/32,::1/128", "192.0.2.1/32", LIMITS],
  ["settings.localIps", "LOCAL_IPS", "10.0.0.0/8", "192.168.0.0/16", LIMITS],
  ["oidc.enable", "OIDC_ENABLED", "false", "true", PROVIDER],
  ["oidc.required", "OIDC_REQUIRED", "false", "true", PROVIDER],
  ["oidc.clientId", "OIDC_CLIENT_ID", null, "another", PROVIDER],
  ["oidc.clientSecretFile", "OIDC_CLIENT_SECRET_FILE", null, A_FILE, PROVIDER],
  ["oidc.discoveryUrl", "OIDC_DISCOVERY_URL", null, "https://login.example.org", PROVIDER],
  ["oidc.scopes", "OIDC_SCOPES", "openid email profile", "openid groups", PROVIDER],
  ["oidc.iconUrl", "OIDC_ICON_URL", null, "/logo.svg", PROVIDER],
  ["email.enable", "EMAIL_ENABLED", "false", "true", MAIL_SERVER],
  ["email.requireVerification", "EMAIL_REQUIRE_VERIFICATION", "false", "true", MAIL_SERVER],
  ["email.smtpHost", "EMAIL_SMTP_HOST", null, "mail.example.net", MAIL_SERVER],
  ["email.smtpPort", "EMAIL_SMTP_PORT", "587", "465", MAILS],
  ["email.smtpUsername", "EMAIL_SMTP_USERNAME", null, "somebody", MAIL_SERVER],
  ["email.smtpPasswordFile", "EMAIL_SMTP_PASSWORD_FILE", null, A_FILE, MAIL_SERVER],
  ["email.fromAddress", "EMAIL_FROM_ADDRESS", null, "builds@example.net", MAIL_SERVER],
  ["email.fromName", "EMAIL_FROM_NAME", "Gradient", "Builds", MAIL_SERVER],
  ["state", "STATE_FILE", null, "/etc/gradient/state.json", STATE],
];

/** What else the server reads. */
const FURTHER: readonly Row[] = [
  ["frontend.url", "FRONTEND_URL", "http://127.0.0.1:3000", "https://ui.example.org", PLACES],
  ["useTls", "USE_TLS", "false", "true", PLACES],
  [null, "DATABASE_URL", null, "postgresql://elsewhere/gradient", PLACES],
  [null, "REUSE_PORT", "false", "true", STORAGE],
  [null, "CREDENTIALS_DIR", "/run/credentials/gradient-server", "/run/secrets", STATE],
  ["email.enableTls", "EMAIL_ENABLE_TLS", "true", "false", MAILS],
  ["settings.createOrg", "CREATE_ORG", "everyone", "superusers", GATES],
  ["settings.createCache", "CREATE_CACHE", "everyone", "none", GATES],
  ["settings.globalStatsPublic", "GLOBAL_STATS_PUBLIC", "false", "true", GATES],
  ["settings.rateLimits", "RATE_LIMITS", "true", "false", LIMITS],
  ["settings.maxSourceUploadSize", "MAX_SOURCE_UPLOAD_SIZE", "536870912", "4096", GATES],
  ["settings.maxNarUploadSize", "MAX_NAR_UPLOAD_SIZE", "536870912", "4096", GATES],
  ["settings.narPartialTtlSecs", "NAR_PARTIAL_TTL_SECS", "86400", "0", GATES],
  ["settings.logLevel.scheduler", "SCHEDULER_LOG_LEVEL", null, "error", LOGS],
  ["settings.workerSampleIntervalSecs", "WORKER_SAMPLE_INTERVAL", "15", "9", WORKERS],
  ["settings.workerHeartbeatTimeoutSecs", "WORKER_HEARTBEAT_TIMEOUT_SECS", "120", "0", WORKERS],
  ["settings.logChunkBytes", "LOG_CHUNK_BYTES", "262144", "8192", LOGS],
  ["settings.allowLocalSources", "ALLOW_LOCAL_SOURCES", "false", "true", GATES],
  ["settings.buildMaxAttempts", "BUILD_MAX_ATTEMPTS", "3", "7", WORKERS],
  ["settings.buildRetryBackoffSecs", "BUILD_RETRY_BACKOFF_SECS", "30", "0", WORKERS],
  ["settings.buildDefaultTimeoutSecs", "BUILD_DEFAULT_TIMEOUT_SECS", "14400", "0", WORKERS],
  ["settings.buildDefaultMaxSilentSecs", "BUILD_DEFAULT_MAX_SILENT_SECS", "3600", "0", WORKERS],
  ["settings.evaluationTimeoutSecs", "EVALUATION_TIMEOUT_SECS", "3600", "5", WORKERS],
  ["settings.evaluationMaxAttributes", "EVALUATION_MAX_ATTRIBUTES", "100000", "6", WORKERS],
  ["settings.evaluationMaxDerivations", "EVALUATION_MAX_DERIVATIONS", "1000000", "7", WORKERS],
  ["settings.evaluationMaxMessages", "EVALUATION_MAX_MESSAGES", "1000", "8", WORKERS],
  ["settings.outboundAllow", "OUTBOUND_ALLOW", null, "127.0.0.1/32", STORAGE],
  ["settings.outboundPrivate", "OUTBOUND_PRIVATE", "true", "false", STORAGE],
  ["settings.upstreamQueryConcurrency", "UPSTREAM_QUERY_CONCURRENCY", "32", "8", STORAGE],
  ["settings.graphConsistencyIntervalSecs", "GRAPH_CONSISTENCY_INTERVAL", "300", "0", LOGS],
  ["settings.keepOrphanDerivationsHours", "KEEP_ORPHAN_DERIVATIONS_HOURS", "24", "0", RETENTION],
  ["settings.narUploadGraceHours", "NAR_UPLOAD_GRACE_HOURS", "24", "1", RETENTION],
  ["settings.keepSilentHostsHours", "KEEP_SILENT_HOSTS_HOURS", "2160", "0", GATES],
  ["settings.cacheMaintenanceIntervalSecs", "CACHE_MAINTENANCE_INTERVAL_SECS", "3600", "60", RETENTION],
  ["settings.scrubBytesPerSecond", "SCRUB_BYTES_PER_SECOND", "8388608", "0", INTEGRITY],
  ["settings.scrubIntervalHours", "SCRUB_INTERVAL_HOURS", "720", "1", INTEGRITY],
  ["storage.sharedPath", "SHARED_STORAGE_PATH", null, "/srv/storage", STORAGE],
  ["storage.movingTo", "STORAGE_MOVING_TO", null, "disk", BUCKETS],
  [null, "NGINX_STORAGE_LOCATION", null, "/internal-storage/", STORAGE],
  [null, "NGINX_LOG_PATH", null, "/run/gradient-nginx", STORAGE],
  ["s3.bucket", "S3_BUCKET", null, "nars", BUCKETS],
  ["s3.region", "S3_REGION", "us-east-1", "eu-central-1", STORAGE],
  ["s3.endpoint", "S3_ENDPOINT", null, "https://s3.example.com", BUCKETS],
  ["s3.accessKeyId", "S3_ACCESS_KEY_ID", null, "another", BUCKETS],
  ["s3.secretAccessKeyFile", "S3_SECRET_ACCESS_KEY_FILE", null, A_FILE, BUCKETS],
  ["s3.prefix", "S3_PREFIX", null, "ci/gradient", BUCKETS],
  ["s3.virtualHostedStyle", "S3_VIRTUAL_HOSTED_STYLE", "true", "false", STORAGE],
  ["s3.redirect", "S3_REDIRECT", "true", "false", BUCKETS],
];

const WORKER = "test/options/worker.test.ts";

/** What the documentation's table says of the worker, with its defaults. */
const OF_WORKER: readonly Row[] = [
  ["serverUrl", "WORKER_SERVER_URL", null, "wss://ci.example.org/proto", WORKER],
  ["workerId", "WORKER_ID", null, "7f1de7a4-3b5c-4d6e-8f90-a1b2c3d4e5f6", WORKER],
  ["peersFile", "WORKER_PEERS_FILE", null, "/run/secrets/peers", WORKER],
  ["discoverable", "WORKER_DISCOVERABLE", "false", "true", WORKER],
  ["listenAddr", "WORKER_LISTEN_ADDR", "127.0.0.1", "::1", WORKER],
  ["port", "WORKER_PORT", "3100", "3200", WORKER],
  ["capabilities.fetch", "WORKER_CAPABILITY_FETCH", "false", "true", WORKER],
  ["capabilities.eval", "WORKER_CAPABILITY_EVAL", "false", "true", WORKER],
  ["capabilities.build", "WORKER_CAPABILITY_BUILD", "false", "true", WORKER],
  ["capabilities.sign", "WORKER_CAPABILITY_SIGN", "false", "true", WORKER],
  ["capabilities.federate", "WORKER_CAPABILITY_FEDERATE", "false", "true", "test/e2e/federation.test.ts"],
  ["settings.maxConcurrentBuilds", "MAX_CONCURRENT_BUILDS", "100", "3", WORKER],
  ["settings.evalWorkers", "WORKER_EVAL_WORKERS", "1", "2", WORKER],
  ["settings.maxConcurrentEvaluations", "MAX_CONCURRENT_EVALUATIONS", "1", "2", WORKER],
  ["settings.maxEvaluationsPerWorker", "MAX_EVALUATIONS_PER_WORKER", "20", "0", "test/worker/evaluators.test.ts"],
  ["settings.maxNixdaemonConnections", "MAX_NIXDAEMON_CONNECTIONS", "32", "64", WORKER],
  ["settings.maxProtoConnections", "MAX_PROTO_CONNECTIONS", "16", "7", WORKER],
  ["settings.gcrootsDir", "WORKER_GCROOTS_DIR", "/nix/var/nix/gcroots/gradient", "/srv/gcroots", WORKER],
  ["settings.logLevel.default", "LOG_LEVEL", "info", "warn", WORKER],
  ["settings.logLevel.eval", "EVAL_LOG_LEVEL", null, "debug", WORKER],
  ["settings.logLevel.build", "BUILD_LOG_LEVEL", null, "debug", WORKER],
  ["settings.logLevel.proto", "PROTO_LOG_LEVEL", null, "debug", WORKER],
];

export const WORKER_ROWS: readonly OptionRow[] = OF_WORKER.map(rowOf);
export const SERVER_ROWS: readonly OptionRow[] = [...DOCUMENTED, ...FURTHER].map(rowOf);

function rowOf([option, variable, standard, other, shown]: Row): OptionRow {
  return { option, variable, default: standard, other, shown };
}
