import { resolve } from "node:path";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import type { IpNetwork } from "#core/domain/ip-address.ts";
import type { OutboundRules } from "#core/domain/outbound-address.ts";
import { SECOND } from "#core/lib/clock.ts";
import type { CreationGate } from "#core/services/deps.ts";
import { type EvaluationLimits, readEvaluationLimits } from "./config/evaluations.ts";
import { type IntegritySettings, readIntegritySettings } from "./config/integrity.ts";
import { type MailConfig, readMailConfig } from "./config/mail.ts";
import { unknownNameWarnings } from "./config/names.ts";
import { type OidcConfig, readOidcConfig } from "./config/oidc.ts";
import { EnvironmentReader } from "./config/reader.ts";
import { type ReportSettings, readReportSettings } from "./config/reports.ts";
import { type RetentionConfig, readRetentionConfig } from "./config/retention.ts";
import { readSecretFiles, type SecretFiles } from "./config/secret-files.ts";
import { readStateSettings, type StateSettings } from "./config/state.ts";
import { readStorageSettings, type StorageSettings } from "./config/storage.ts";
import { readUploadSettings, type UploadSettings } from "./config/uploads.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface PoolSizes {
  readonly connectionsMax: number;
  readonly connectionsMin: number;
}

/** The server's settings as decided once at its start. Sizes are bytes, times are milliseconds. */
export interface Config {
  readonly listen: { readonly address: string; readonly port: number; readonly reusePort: boolean };
  /** Under which clients reach the API, without a trailing slash. */
  readonly serveUrl: string;
  /** Under which people reach the web interface, without a trailing slash. */
  readonly frontendUrl: string;
  readonly secureCookie: boolean;
  /** Absolute. Holds what is kept outside a database: NARs, and without a database URL also the database. */
  readonly basePath: string;
  readonly storage: StorageSettings;
  readonly database: {
    /** Null: the server brings its own PostgreSQL. */
    readonly url: string | null;
    readonly scheduler: PoolSizes;
    readonly web: PoolSizes;
  };
  /** Null: made in the base folder at the first start (only with the server's own PostgreSQL). */
  readonly secrets: SecretFiles;
  readonly state: StateSettings;
  readonly registrationEnabled: boolean;
  /** Null: the server sends no mail. */
  readonly mail: MailConfig | null;
  /** Null: nobody signs in by an identity provider. */
  readonly oidc: OidcConfig | null;
  readonly createOrganization: CreationGate;
  readonly createCache: CreationGate;
  readonly requestBytesMax: number;
  readonly sourceBytesMax: number;
  readonly uploads: UploadSettings;
  readonly trustedProxies: readonly IpNetwork[];
  /** Clients here are shown a cache's local priority. */
  readonly localIps: readonly IpNetwork[];
  /** Whether clients that ask too often are refused; off where a proxy does that. */
  readonly rateLimited: boolean;
  /** Whether everybody who is signed in sees all connected workers, and not superusers alone. */
  readonly globalStatsPublic: boolean;
  readonly reports: ReportSettings;
  readonly logLevels: LogLevels;
  readonly keepEvaluations: number;
  /** What of a stored log is compressed together. */
  readonly logChunkBytes: number;
  readonly allowLocalSources: boolean;
  /** Where the server may connect to when somebody names an address. */
  readonly outbound: OutboundRules;
  readonly upstreamQueriesMax: number;
  /** How often the rows of the build graph are compared with the facts they stand for; 0: never. */
  readonly auditIntervalMs: number;
  readonly workers: WorkerLimits;
  readonly builds: BuildSettings;
  readonly evaluations: EvaluationLimits;
  readonly retention: RetentionConfig;
  readonly integrity: IntegritySettings;
}

export interface LogLevels {
  readonly default: LogLevel;
  readonly web: LogLevel;
  readonly cache: LogLevel;
  readonly proto: LogLevel;
  readonly scheduler: LogLevel;
}

export interface WorkerLimits {
  readonly discoverable: boolean;
  readonly connectionsMax: number;
  readonly narServesMax: number;
  readonly narOpenTimeoutMs: number;
  readonly narSendTimeoutMs: number;
  /** Of the uploads of one session that have arrived and are not stored yet. */
  readonly narBufferBytesMax: number;
  readonly sampleIntervalMs: number;
  /** 0: a silent worker is never dropped. */
  readonly heartbeatTimeoutMs: number;
}

export interface BuildSettings {
  readonly attemptsMax: number;
  readonly retryBackoffMs: number;
  /** 0: none. */
  readonly timeoutMs: number;
  /** 0: none. */
  readonly maxSilentMs: number;
}

/** The message lists everything that is wrong, one line each. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

const DAY_SECONDS = 86_400;
const GATES = ["none", "superusers", "everyone"] as const;

/** Reads and decides everything at once. Throws `ConfigError`; `warnings` are for the log. */
export function readConfig(environment: Readonly<Record<string, string | undefined>>): {
  readonly config: Config;
  readonly warnings: readonly string[];
} {
  const reader = new EnvironmentReader(environment);
  const listen = {
    address: reader.address("GRADIENT_IP", "127.0.0.1"),
    port: reader.integer("GRADIENT_PORT", 3_000, { min: 0, max: 65_535 }),
    reusePort: reader.boolean("GRADIENT_REUSE_PORT", false),
  };
  const database = readDatabase(reader);
  const serveUrl = reader.origin("GRADIENT_SERVE_URL", originOf(listen));
  const config: Config = {
    listen,
    serveUrl,
    frontendUrl: reader.origin("GRADIENT_FRONTEND_URL", serveUrl),
    secureCookie: reader.boolean("GRADIENT_USE_TLS", serveUrl.startsWith("https:")),
    basePath: resolve(reader.text("GRADIENT_BASE_PATH") ?? "data"),
    storage: readStorageSettings(reader, database.url),
    database,
    secrets: readSecretFiles(reader, { required: database.url !== null }),
    state: readStateSettings(reader),
    registrationEnabled: reader.boolean("GRADIENT_ENABLE_REGISTRATION", true),
    mail: readMailConfig(reader),
    oidc: readOidcConfig(reader),
    createOrganization: reader.choice("GRADIENT_CREATE_ORG", GATES, "everyone"),
    createCache: reader.choice("GRADIENT_CREATE_CACHE", GATES, "everyone"),
    requestBytesMax: reader.integer("GRADIENT_MAX_REQUEST_SIZE", 2 * 1024 * 1024, { min: 1_024, max: 2 ** 30 }),
    sourceBytesMax: reader.integer("GRADIENT_MAX_SOURCE_UPLOAD_SIZE", 512 * 1024 * 1024, { min: 1_024, max: 2 ** 40 }),
    uploads: readUploadSettings(reader),
    trustedProxies: reader.networks("GRADIENT_TRUSTED_PROXIES", "127.0.0.1/32,::1/128"),
    localIps: reader.networks("GRADIENT_LOCAL_IPS", "10.0.0.0/8"),
    rateLimited: reader.boolean("GRADIENT_RATE_LIMITS", true),
    globalStatsPublic: reader.boolean("GRADIENT_GLOBAL_STATS_PUBLIC", false),
    reports: readReportSettings(reader),
    logLevels: readLogLevels(reader),
    keepEvaluations: reader.integer("GRADIENT_KEEP_EVALUATIONS", 5, { min: 0, max: 1_000_000 }),
    logChunkBytes: reader.integer("GRADIENT_LOG_CHUNK_BYTES", 262_144, { min: 4_096, max: 16 * 1024 * 1024 }),
    allowLocalSources: reader.boolean("GRADIENT_ALLOW_LOCAL_SOURCES", false),
    outbound: {
      allowed: reader.networks("GRADIENT_OUTBOUND_ALLOW", ""),
      privateAllowed: reader.boolean("GRADIENT_OUTBOUND_PRIVATE", true),
    },
    upstreamQueriesMax: reader.integer("GRADIENT_UPSTREAM_QUERY_CONCURRENCY", 32, { min: 1, max: 10_000 }),
    auditIntervalMs: seconds(reader, "GRADIENT_GRAPH_CONSISTENCY_INTERVAL", 300, 0),
    workers: readWorkerLimits(reader),
    builds: readBuildSettings(reader),
    evaluations: readEvaluationLimits(reader),
    retention: readRetentionConfig(reader),
    integrity: readIntegritySettings(reader),
  };
  if (reader.problems.length > 0) throw new ConfigError(reader.problems);
  return { config, warnings: unknownNameWarnings(environment) };
}

/** Where the server answers when nothing stands in front of it. */
function originOf({ address, port }: Config["listen"]): string {
  if (address === "0.0.0.0" || address === "::") return `http://127.0.0.1:${port}`;
  return `http://${address.includes(":") ? `[${address}]` : address}:${port}`;
}

function readDatabase(reader: EnvironmentReader): Config["database"] {
  const file = reader.file("GRADIENT_DATABASE_URL_FILE");
  const url = file ? new TextDecoder().decode(file).trim() : reader.text("GRADIENT_DATABASE_URL");
  if (url !== null && !/^postgres(ql)?:\/\//.test(url)) {
    // The text may hold a password: it is not shown.
    reader.problems.push("the database URL must begin with postgres:// or postgresql://");
  }
  const pool = (prefix: string, connectionsMax: number, connectionsMin: number): PoolSizes => {
    const [nameMax, nameMin] = [`${prefix}MAX_CONNECTIONS`, `${prefix}MIN_CONNECTIONS`];
    const sizes = {
      connectionsMax: reader.integer(nameMax, connectionsMax, { min: 1, max: 10_000 }),
      connectionsMin: reader.integer(nameMin, connectionsMin, { min: 0, max: 10_000 }),
    };
    if (sizes.connectionsMin > sizes.connectionsMax) {
      reader.problems.push(`${nameMin}=${sizes.connectionsMin}: must not exceed ${nameMax}=${sizes.connectionsMax}`);
    }
    return sizes;
  };
  return { url, scheduler: pool("GRADIENT_DATABASE_", 32, 2), web: pool("GRADIENT_DATABASE_WEB_", 16, 1) };
}

function readLogLevels(reader: EnvironmentReader): LogLevels {
  const general = reader.choice("GRADIENT_LOG_LEVEL", LOG_LEVELS, "info");
  const area = (name: string): LogLevel => reader.choice(`GRADIENT_${name}_LOG_LEVEL`, LOG_LEVELS, null) ?? general;
  return {
    default: general,
    web: area("WEB"),
    cache: area("CACHE"),
    proto: area("PROTO"),
    scheduler: area("SCHEDULER"),
  };
}

function readWorkerLimits(reader: EnvironmentReader): WorkerLimits {
  return {
    discoverable: reader.boolean("GRADIENT_DISCOVERABLE", true),
    connectionsMax: reader.integer("GRADIENT_MAX_PROTO_CONNECTIONS", 256, { min: 1, max: 100_000 }),
    narServesMax: reader.integer("GRADIENT_MAX_CONCURRENT_NAR_SERVES", 8, { min: 1, max: 1_000 }),
    narOpenTimeoutMs: seconds(reader, "GRADIENT_NAR_STORAGE_OPEN_TIMEOUT_SECS", 60, 1),
    narSendTimeoutMs: seconds(reader, "GRADIENT_NAR_SEND_CHUNK_TIMEOUT_SECS", 30, 1),
    narBufferBytesMax: reader.integer("GRADIENT_MAX_NAR_BUFFER_BYTES", 10 * 2 ** 30, { min: 2 ** 20, max: 2 ** 50 }),
    sampleIntervalMs: seconds(reader, "GRADIENT_WORKER_SAMPLE_INTERVAL", 15, 1),
    heartbeatTimeoutMs: seconds(reader, "GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS", 120, 0),
  };
}

function readBuildSettings(reader: EnvironmentReader): BuildSettings {
  return {
    attemptsMax: reader.integer("GRADIENT_BUILD_MAX_ATTEMPTS", DEFAULT_RETRY_POLICY.attemptsMax, { min: 1, max: 100 }),
    retryBackoffMs: seconds(reader, "GRADIENT_BUILD_RETRY_BACKOFF_SECS", DEFAULT_RETRY_POLICY.backoffMs / SECOND, 0),
    timeoutMs: seconds(reader, "GRADIENT_BUILD_DEFAULT_TIMEOUT_SECS", 14_400, 0),
    maxSilentMs: seconds(reader, "GRADIENT_BUILD_DEFAULT_MAX_SILENT_SECS", 3_600, 0),
  };
}

function seconds(reader: EnvironmentReader, name: string, fallback: number, min: number): number {
  return reader.integer(name, fallback, { min, max: 30 * DAY_SECONDS }) * 1_000;
}
