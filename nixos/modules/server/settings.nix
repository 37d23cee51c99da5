# `services.gradient.settings`, one variable each. Ranges and defaults are those of the server.
{ lib }:
let
  inherit (lib) types;
  inherit (import ../variables.nix { inherit lib; })
    allAreas
    area
    flag
    number
    seconds
    ;
  day = 86400;
  mebibyte = 1048576;

  networks = variable: default: description: {
    inherit variable default;
    type = types.either types.str (types.listOf types.str);
    example = [
      "10.0.0.0/8"
      "fd00::/8"
    ];
    description = "${description} With commas between them, or a list.";
  };
  creators = variable: what: {
    inherit variable;
    type = types.enum [
      "none"
      "superusers"
      "everyone"
    ];
    default = "everyone";
    example = "superusers";
    description = "Who may create ${what}.";
  };
in
{
  logLevels = {
    default = allAreas;
    cache = area "CACHE_LOG_LEVEL" "caches";
    web = area "WEB_LOG_LEVEL" "the API";
    proto = area "PROTO_LOG_LEVEL" "connections to workers";
    scheduler = area "SCHEDULER_LOG_LEVEL" "the scheduler";
  };

  table = {
    enableRegistration = flag "ENABLE_REGISTRATION" true "Whether people may register by themselves.";
    sentryDsn = {
      variable = "SENTRY_DSN";
      type = types.nullOr types.str;
      default = null;
      example = "https://0123456789abcdef@sentry.example.com/42";
      description = "Where `reportErrors` sends errors. There is no other place for them.";
    };
    createOrg = creators "CREATE_ORG" "organizations";
    createCache = creators "CREATE_CACHE" "caches";
    deleteState = flag "DELETE_STATE" true ''
      Whether what has left `services.gradient.state` is deleted; otherwise people may change it from then on.
    '';
    globalStatsPublic = flag "GLOBAL_STATS_PUBLIC" false ''
      Whether everybody who is signed in sees all connected workers.
    '';

    maxProtoConnections = number "MAX_PROTO_CONNECTIONS" 256 1 100000 ''
      Most connections of workers at a time; further ones get 503 with `Retry-After: 10`.
    '';
    workerSampleIntervalSecs = seconds "WORKER_SAMPLE_INTERVAL" 15 1 "Between two measurements of a worker.";
    workerHeartbeatTimeoutSecs = seconds "WORKER_HEARTBEAT_TIMEOUT_SECS" 120 0 ''
      After so long a silent worker is dropped; 0 is never.
    '';
    maxRequestSize = number "MAX_REQUEST_SIZE" (2 * mebibyte) 1024 1073741824 ''
      Largest body of most requests, in bytes.
    '';
    maxSourceUploadSize = number "MAX_SOURCE_UPLOAD_SIZE" (512 * mebibyte) 1024 1099511627776 ''
      Largest source of a build request, in bytes.
    '';
    maxNarUploadSize = number "MAX_NAR_UPLOAD_SIZE" (512 * mebibyte) 1024 8796093022208 "Largest NAR file, in bytes.";
    rateLimits = flag "RATE_LIMITS" true "Whether clients that ask too often are refused. Off where a proxy does that.";
    trustedProxies = networks "TRUSTED_PROXIES" "127.0.0.1/32,::1/128" "Peers whose `X-Forwarded-For` is believed.";
    localIps = networks "LOCAL_IPS" "10.0.0.0/8" "Clients here are shown a cache's local priority.";
    outboundAllow = networks "OUTBOUND_ALLOW" "" ''
      Addresses of this machine that the server may connect to when somebody names them.
    '';
    outboundPrivate = flag "OUTBOUND_PRIVATE" true ''
      Whether the server may connect to private networks when somebody names them.
    '';
    allowLocalSources = flag "ALLOW_LOCAL_SOURCES" false ''
      Whether projects may name folders of this machine. Who may create a project can then read what the server reads.
    '';

    keepEvaluations = number "KEEP_EVALUATIONS" 5 0 1000000 "Evaluations that are kept of each project.";
    cacheTtlHours = number "NAR_TTL_HOURS" 336 0 876000 ''
      Hours after which a NAR that nobody fetches is deleted; 0 is never.
    '';
    keepOrphanDerivationsHours = number "KEEP_ORPHAN_DERIVATIONS_HOURS" 24 0 876000 ''
      Hours for which builds are kept that no evaluation names any more.
    '';
    keepSilentHostsHours = number "KEEP_SILENT_HOSTS_HOURS" 2160 0 876000 ''
      Hours for which a host's systems are kept after its agent was last heard of; 0 is not at all.
    '';
    narUploadGraceHours = number "NAR_UPLOAD_GRACE_HOURS" 24 1 876000 ''
      Hours for which an uploaded path is kept before something has to keep it.
    '';
    narPartialTtlSecs = number "NAR_PARTIAL_TTL_SECS" day 0 31536000 ''
      Seconds for which an unfinished upload is kept; 0 is for ever.
    '';
    cacheMaintenanceIntervalSecs = seconds "CACHE_MAINTENANCE_INTERVAL_SECS" 3600 60 "Between two sweeps of retention.";
    narStorageOpenTimeoutSecs = seconds "NAR_STORAGE_OPEN_TIMEOUT_SECS" 60 1 ''
      Most seconds for opening a stored NAR, before it counts as unavailable.
    '';
    narSendChunkTimeoutSecs = seconds "NAR_SEND_CHUNK_TIMEOUT_SECS" 30 1 ''
      Most seconds that a piece of a NAR may wait for a worker, before the transfer is given up.
    '';
    maxConcurrentNarServes = number "MAX_CONCURRENT_NAR_SERVES" 8 1 1000 "NARs that one worker is sent at a time.";
    maxNarBufferBytes = number "MAX_NAR_BUFFER_BYTES" 10737418240 mebibyte 1125899906842624 ''
      Bytes of uploads that one worker may have under way.
    '';
    upstreamQueryConcurrency = number "UPSTREAM_QUERY_CONCURRENCY" 32 1 10000 "Questions to upstream caches at a time.";
    scrubBytesPerSecond = {
      variable = "SCRUB_BYTES_PER_SECOND";
      type = types.either (types.enum [ 0 ]) (types.ints.between 65536 1099511627776);
      default = 8 * mebibyte;
      example = 0;
      description = "How fast stored NARs are read again to find damage; 0 is not at all.";
    };
    scrubIntervalHours = number "SCRUB_INTERVAL_HOURS" 720 1 87600 "Hours within which each stored NAR is read again.";

    buildMaxAttempts = number "BUILD_MAX_ATTEMPTS" 3 1 100 ''
      How often a build is tried that fails for a passing reason.
    '';
    buildRetryBackoffSecs = seconds "BUILD_RETRY_BACKOFF_SECS" 30 0 "Before a build is tried again the first time.";
    buildDefaultTimeoutSecs = seconds "BUILD_DEFAULT_TIMEOUT_SECS" 14400 0 ''
      How long a build may take whose derivation does not say; 0 is without a limit.
    '';
    buildDefaultMaxSilentSecs = seconds "BUILD_DEFAULT_MAX_SILENT_SECS" 3600 0 ''
      How long a build may print nothing whose derivation does not say; 0 is without a limit.
    '';
    logChunkBytes = number "LOG_CHUNK_BYTES" 262144 4096 (16 * mebibyte) "What of a stored log is compressed together.";
    graphConsistencyIntervalSecs = seconds "GRAPH_CONSISTENCY_INTERVAL" 300 0 ''
      Between two comparisons of the build graph with what it stands for; 0 is never.
    '';
    evaluationTimeoutSecs = number "EVALUATION_TIMEOUT_SECS" 3600 1 (7 * day) "How long an evaluation may take.";
    evaluationMaxAttributes = number "EVALUATION_MAX_ATTRIBUTES" 100000 1 100000000 "Attributes of one evaluation.";
    evaluationMaxDerivations = number "EVALUATION_MAX_DERIVATIONS" 1000000 1 100000000 "Derivations of one evaluation.";
    evaluationMaxMessages = number "EVALUATION_MAX_MESSAGES" 1000 1 100000000 ''
      Warnings and notices that are kept of one evaluation.
    '';
  };
}
