import { join } from "node:path";
import { isUuidV4 } from "#core/lib/ids.ts";
import { type BuildSettings, readBuildSettings } from "./config-builds.ts";
import { type ConnectionSettings, readConnectionSettings } from "./config-connection.ts";
import { type EvaluationSettings, readEvaluationSettings } from "./config-evaluation.ts";
import { unknownNameWarnings } from "./config-names.ts";
import { ConfigReader, type Environment } from "./config-reader.ts";
import { type DaemonStore, parseStoreUrl, StoreUrlError } from "./daemon/store-url.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The worker's settings as decided once at its start. Sizes are bytes. */
export interface WorkerConfig extends ConnectionSettings, BuildSettings, EvaluationSettings {
  /** Absolute. Keeps the worker's id, repositories and logs of running builds. */
  readonly dataDir: string;
  /** Null: the one kept in the data folder. */
  readonly workerId: string | null;
  readonly capabilities: {
    readonly fetch: boolean;
    readonly eval: boolean;
    readonly build: boolean;
    readonly sign: boolean;
    readonly federate: boolean;
  };
  readonly daemonConnectionsMax: number;
  /** Absolute. Null: running builds are not pinned. */
  readonly gcRootsDir: string | null;
  readonly allowLocalSources: boolean;
  /** The name of the user that evaluators run as; only a worker of root's can switch. Null: the worker's own. */
  readonly evaluatorUser: string | null;
  /** Null: what the machine and its Nix say. */
  readonly architectures: readonly string[] | null;
  readonly systemFeatures: readonly string[] | null;
  readonly nixCommand: string;
  readonly gitCommand: string;
  /** The value of NIX_REMOTE, and what it means. */
  readonly nixRemote: string;
  readonly daemonStore: DaemonStore;
  readonly logLevels: LogLevels;
  /** The whole environment of programs that are started. */
  readonly childVariables: Readonly<Record<string, string>>;
}

export interface LogLevels {
  readonly default: LogLevel;
  readonly eval: LogLevel;
  readonly build: LogLevel;
  readonly proto: LogLevel;
}

/** The message lists everything that is wrong, one line each. */
export class WorkerConfigError extends Error {
  override readonly name = "WorkerConfigError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the configuration cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

const DATA_DIR = "/var/lib/gradient-worker";
const GCROOTS_DIR = "/nix/var/nix/gcroots/gradient";
/** One connection for a build, one for an evaluation, and two for NARs. */
const DAEMON_CONNECTIONS_MIN = 4;

/** What evaluators, git and ssh need of our environment; whatever else is in it may be a secret. */
const CHILD_VARIABLES = [
  /^(?:PATH|LANG|LC_.*|TZ|TMPDIR)$/,
  /^(?:SSL_CERT_FILE|SSL_CERT_DIR|CURL_CA_BUNDLE|GIT_SSL_CAINFO)$/,
  /^NIX_(?:SSL_CERT_FILE|CONF_DIR|PATH)$/,
  /^(?:https?|no|all)_proxy$/i,
];

/** What the process was started with. Everything else of the worker takes its settings as arguments. */
export function processEnvironment(): Record<string, string | undefined> {
  return process.env;
}

/** Reads and decides everything at once. Throws `WorkerConfigError`; `warnings` are for the log. */
export function readWorkerConfig(environment: Environment): {
  readonly config: WorkerConfig;
  readonly warnings: readonly string[];
} {
  const reader = new ConfigReader(environment);
  const connection = readConnectionSettings(reader);
  const config: WorkerConfig = {
    ...connection,
    dataDir: readDataDir(reader),
    workerId: readWorkerId(reader),
    capabilities: {
      fetch: reader.boolean("GRADIENT_WORKER_CAPABILITY_FETCH", false),
      eval: reader.boolean("GRADIENT_WORKER_CAPABILITY_EVAL", false),
      build: reader.boolean("GRADIENT_WORKER_CAPABILITY_BUILD", false),
      sign: reader.boolean("GRADIENT_WORKER_CAPABILITY_SIGN", false),
      federate: connection.federation !== null,
    },
    ...readBuildSettings(reader),
    ...readEvaluationSettings(reader),
    daemonConnectionsMax: reader.integer("GRADIENT_MAX_NIXDAEMON_CONNECTIONS", 32, {
      min: DAEMON_CONNECTIONS_MIN,
      max: 10_000,
    }),
    gcRootsDir: reader.absolutePath("GRADIENT_WORKER_GCROOTS_DIR", GCROOTS_DIR) || null,
    allowLocalSources: reader.boolean("GRADIENT_WORKER_ALLOW_LOCAL_SOURCES", false),
    evaluatorUser: readEvaluatorUser(reader),
    architectures: reader.words("GRADIENT_WORKER_ARCHITECTURES"),
    systemFeatures: reader.words("GRADIENT_WORKER_SYSTEM_FEATURES"),
    nixCommand: reader.text("GRADIENT_BINPATH_NIX") ?? "nix",
    gitCommand: "git",
    ...readDaemonStore(reader),
    logLevels: readLogLevels(reader),
    childVariables: childVariables(environment),
  };
  if (reader.problems.length > 0) throw new WorkerConfigError(reader.problems);
  return { config, warnings: [...unknownNameWarnings(environment), ...doubts(config)] };
}

/** systemd names the state folder it made for the unit; several are separated by colons. */
function readDataDir(reader: ConfigReader): string {
  const stateDirectory = reader.text("STATE_DIRECTORY")?.split(":")[0] || DATA_DIR;
  return reader.absolutePath("GRADIENT_WORKER_DATA_DIR", stateDirectory) || stateDirectory;
}

function readWorkerId(reader: ConfigReader): string | null {
  const id = reader.text("GRADIENT_WORKER_ID")?.toLowerCase() ?? null;
  if (id === null || isUuidV4(id)) return id;
  return reader.wrong("GRADIENT_WORKER_ID", "must be a UUID of version 4, as `uuidgen --random` prints", null);
}

/** useradd(8), and names of a directory service, which hold dots and @. */
function readEvaluatorUser(reader: ConfigReader): string | null {
  const name = reader.text("GRADIENT_WORKER_EVALUATOR_USER");
  if (name === null || /^[A-Za-z_][A-Za-z0-9_.@-]{0,255}\$?$/.test(name)) return name;
  return reader.wrong("GRADIENT_WORKER_EVALUATOR_USER", "must be the name of a user, such as gradient-evaluator", null);
}

function readDaemonStore(reader: ConfigReader): { readonly nixRemote: string; readonly daemonStore: DaemonStore } {
  const text = reader.text("NIX_REMOTE") ?? "daemon";
  try {
    return { nixRemote: text, daemonStore: parseStoreUrl(text) };
  } catch (error) {
    if (!(error instanceof StoreUrlError)) throw error;
    reader.problems.push(`NIX_REMOTE: ${error.message}`);
    return { nixRemote: "daemon", daemonStore: parseStoreUrl("daemon") };
  }
}

function readLogLevels(reader: ConfigReader): LogLevels {
  const general = reader.choice("GRADIENT_LOG_LEVEL", LOG_LEVELS, "info");
  const area = (name: string): LogLevel => reader.choice(`GRADIENT_${name}_LOG_LEVEL`, LOG_LEVELS, general);
  return { default: general, eval: area("EVAL"), build: area("BUILD"), proto: area("PROTO") };
}

function childVariables(environment: Environment): Record<string, string> {
  const chosen: Record<string, string> = { PATH: "/usr/local/bin:/usr/bin:/bin" };
  for (const [name, value] of Object.entries(environment)) {
    if (value !== undefined && CHILD_VARIABLES.some((pattern) => pattern.test(name))) chosen[name] = value;
  }
  return chosen;
}

/** What is allowed but hardly meant. */
function doubts(config: WorkerConfig): string[] {
  const { fetch, eval: evaluate, build, sign, federate } = config.capabilities;
  const found: string[] = [];
  if (!build && !fetch && !evaluate) {
    found.push(
      "this worker will get no jobs: set GRADIENT_WORKER_CAPABILITY_BUILD=true for builds, and " +
        "GRADIENT_WORKER_CAPABILITY_FETCH=true and GRADIENT_WORKER_CAPABILITY_EVAL=true for evaluations",
    );
  }
  if (federate && sign) {
    found.push(
      "this relay signs nothing: GRADIENT_WORKER_CAPABILITY_SIGN=true is for the workers behind it, whose signatures " +
        "pass unchanged",
    );
  }
  if (config.peers.file === null && config.peers.text === null) {
    found.push(
      "this worker has no token, so no server will take it: register its id (in " +
        `${join(config.dataDir, "worker-id")}) in an organization and name the file with the answer in ` +
        "GRADIENT_WORKER_PEERS_FILE",
    );
  }
  return found;
}
