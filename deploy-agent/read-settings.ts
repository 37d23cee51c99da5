import { nearestWord } from "#core/lib/nearest-word.ts";
import {
  ENVIRONMENT_PREFIX,
  flagOf,
  MODES,
  type Mode,
  REBOOT_POLICIES,
  type RebootPolicy,
  SETTING_NAMES,
  SETTINGS,
  type SettingName,
  type SettingSpec,
  SYSTEMD_CHOICES,
} from "./settings.ts";
import {
  type Parsed,
  parseBoolean,
  parseChoice,
  parseCommand,
  parseHost,
  parseKeyList,
  parseNumber,
  parsePath,
  parseProject,
  parseServer,
  parseShell,
  parseShellList,
  parseUnitList,
  parseWindow,
  type TimeWindow,
} from "./settings-values.ts";

export type Environment = Readonly<Record<string, string | undefined>>;
/** Values of flags, by the names of their settings. */
export type Flags = Readonly<Partial<Record<SettingName, string>>>;

/** What the agent was told. Paths are absolute, times seconds. */
export interface DeploySettings {
  readonly server: string;
  readonly allowHttp: boolean;
  /** Instead of the keys that the server names for its caches; empty: those. */
  readonly trustedPublicKeys: readonly string[];
  readonly project: { readonly organization: string; readonly name: string };
  readonly host: string;
  readonly apiKeyFile: string;
  readonly mode: Mode;
  readonly rollback: boolean;
  readonly switchTimeoutSeconds: number;
  readonly downloadTimeoutSeconds: number;
  readonly serverTimeoutSeconds: number;
  readonly hostSubstituters: boolean;
  readonly diskMarginBytes: number;
  readonly healthUnits: boolean;
  readonly healthIgnoredUnits: readonly string[];
  readonly healthServer: boolean;
  readonly healthCommands: readonly string[];
  readonly healthCommandTimeoutSeconds: number;
  readonly healthSettleSeconds: number;
  readonly healthGraceSeconds: number;
  readonly busyCommand: string | null;
  readonly waitForInhibitors: boolean;
  readonly waitSeconds: number;
  readonly reboot: RebootPolicy;
  /** Null: always. */
  readonly rebootWindow: TimeWindow | null;
  readonly report: boolean;
  readonly watchWaitSeconds: number;
  readonly caFile: string | null;
  readonly netrcFile: string | null;
  readonly stateDir: string;
  readonly profile: string;
  readonly currentSystem: string;
  readonly bootedSystem: string;
  readonly bootIdFile: string;
  /** Empty where the store is at /nix/store. */
  readonly storeRoot: string;
  readonly systemd: (typeof SYSTEMD_CHOICES)[number];
  readonly commands: {
    readonly nixStore: string;
    readonly nixEnv: string;
    readonly systemctl: string;
    readonly systemdRun: string;
    readonly systemdInhibit: string;
    readonly shell: string;
  };
}

/** The message lists everything that is wrong, one line each. */
export class SettingsError extends Error {
  override readonly name = "SettingsError";
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`the settings cannot be used:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
    this.problems = problems;
  }
}

const MEGABYTE = 1_000_000;
const STATE_DIR = "/var/lib/gradient-deploy";

class SettingsReader {
  readonly problems: string[] = [];
  readonly #environment: Environment;
  readonly #flags: Flags;

  constructor(environment: Environment, flags: Flags) {
    this.#environment = environment;
    this.#flags = flags;
  }

  /** Null when nothing is given and nothing is the fallback. */
  read<Value>(name: SettingName, parse: (text: string, spec: SettingSpec) => Parsed<Value>): Value | null {
    const spec: SettingSpec = SETTINGS[name];
    const given = (this.#flags[name] ?? this.#environment[ENVIRONMENT_PREFIX + name])?.trim();
    if (!given && spec.fallback === null) {
      this.problems.push(`${ENVIRONMENT_PREFIX}${name} (or ${flagOf(name)}) is missing: ${spec.description}`);
      return null;
    }
    const text = given || spec.fallback;
    if (!text) return null;
    const parsed = parse(text, spec);
    if (parsed.ok) return parsed.value;
    const spelling = this.#flags[name] === undefined ? `${ENVIRONMENT_PREFIX}${name}` : flagOf(name);
    this.problems.push(`${spelling}=${text.slice(0, 200)}: ${parsed.advice}`);
    return null;
  }

  /** Off by an empty text, which is not the fallback then. */
  readOrEmpty(name: SettingName): string | null {
    const given = this.#flags[name] ?? this.#environment[ENVIRONMENT_PREFIX + name];
    return given?.trim() === "" ? null : this.read(name, parsePath);
  }

  number(name: SettingName): number {
    return this.read(name, parseNumber) ?? 0;
  }

  boolean(name: SettingName): boolean {
    return this.read(name, parseBoolean) ?? false;
  }

  command(name: SettingName): string {
    return this.read(name, parseCommand) ?? "";
  }

  path(name: SettingName): string {
    return this.read(name, parsePath) ?? "";
  }

  choice<const Choice extends string>(name: SettingName, choices: readonly [Choice, ...Choice[]]): Choice {
    return this.read(name, (text) => parseChoice(text, choices)) ?? choices[0];
  }
}

/** Reads and decides everything at once. Throws `SettingsError`; `warnings` are for people. */
export function readSettings(
  environment: Environment,
  { flags = {}, machineName }: { readonly flags?: Flags; readonly machineName: string },
): { readonly settings: DeploySettings; readonly warnings: readonly string[] } {
  const reader = new SettingsReader(environment, flags);
  const settings: DeploySettings = {
    ...readPlaces(reader, environment),
    ...readHealth(reader),
    server: reader.read("SERVER", parseServer) ?? "",
    allowHttp: reader.boolean("ALLOW_HTTP"),
    trustedPublicKeys: reader.read("TRUSTED_PUBLIC_KEYS", parseKeyList) ?? [],
    project: reader.read("PROJECT", parseProject) ?? { organization: "", name: "" },
    host: reader.read("HOST", parseHost) ?? machineName,
    apiKeyFile: reader.path("API_KEY_FILE"),
    mode: reader.choice("MODE", MODES),
    rollback: reader.boolean("ROLLBACK"),
    switchTimeoutSeconds: reader.number("SWITCH_TIMEOUT_SECS"),
    downloadTimeoutSeconds: reader.number("DOWNLOAD_TIMEOUT_SECS"),
    serverTimeoutSeconds: reader.number("SERVER_TIMEOUT_SECS"),
    hostSubstituters: reader.boolean("HOST_SUBSTITUTERS"),
    diskMarginBytes: reader.number("DISK_MARGIN_MB") * MEGABYTE,
    busyCommand: reader.read("BUSY_COMMAND", parseShell),
    waitForInhibitors: reader.boolean("WAIT_FOR_INHIBITORS"),
    waitSeconds: reader.number("WAIT_SECS"),
    reboot: reader.choice("REBOOT", REBOOT_POLICIES),
    rebootWindow: reader.read("REBOOT_WINDOW", parseWindow),
    report: reader.boolean("REPORT"),
    watchWaitSeconds: reader.number("WATCH_WAIT_SECS"),
  };
  if (!parseHost(settings.host).ok) {
    reader.problems.push(`GRADIENT_DEPLOY_HOST is missing, and this machine's name ${settings.host} cannot be one`);
  }
  if (settings.healthSettleSeconds > settings.healthGraceSeconds) {
    reader.problems.push("GRADIENT_DEPLOY_HEALTH_SETTLE_SECS must not be more than GRADIENT_DEPLOY_HEALTH_GRACE_SECS");
  }
  if (reader.problems.length > 0) throw new SettingsError(reader.problems);
  return { settings, warnings: [...unknownNames(environment), ...doubts(settings)] };
}

function readHealth(reader: SettingsReader) {
  return {
    healthUnits: reader.boolean("HEALTH_UNITS"),
    healthIgnoredUnits: reader.read("HEALTH_IGNORED_UNITS", parseUnitList) ?? [],
    healthServer: reader.boolean("HEALTH_SERVER"),
    healthCommands: reader.read("HEALTH_COMMANDS", parseShellList) ?? [],
    healthCommandTimeoutSeconds: reader.number("HEALTH_COMMAND_TIMEOUT_SECS"),
    healthSettleSeconds: reader.number("HEALTH_SETTLE_SECS"),
    healthGraceSeconds: reader.number("HEALTH_GRACE_SECS"),
  };
}

function readPlaces(reader: SettingsReader, environment: Environment) {
  return {
    caFile: reader.read("CA_FILE", parsePath) ?? (environment.NIX_SSL_CERT_FILE || environment.SSL_CERT_FILE || null),
    netrcFile: reader.readOrEmpty("NETRC_FILE"),
    // systemd names the state folder that it made for the unit; several are separated by colons.
    stateDir: reader.read("STATE_DIR", parsePath) ?? (environment.STATE_DIRECTORY?.split(":")[0] || STATE_DIR),
    profile: reader.path("PROFILE"),
    currentSystem: reader.path("CURRENT_SYSTEM"),
    bootedSystem: reader.path("BOOTED_SYSTEM"),
    bootIdFile: reader.path("BOOT_ID_FILE"),
    storeRoot: (reader.read("STORE_ROOT", parsePath) ?? "").replace(/\/+$/, ""),
    systemd: reader.choice("SYSTEMD", SYSTEMD_CHOICES),
    commands: {
      nixStore: reader.command("BINPATH_NIX_STORE"),
      nixEnv: reader.command("BINPATH_NIX_ENV"),
      systemctl: reader.command("BINPATH_SYSTEMCTL"),
      systemdRun: reader.command("BINPATH_SYSTEMD_RUN"),
      systemdInhibit: reader.command("BINPATH_SYSTEMD_INHIBIT"),
      shell: reader.command("BINPATH_SHELL"),
    },
  };
}

function unknownNames(environment: Environment): string[] {
  const known = SETTING_NAMES.map((name) => ENVIRONMENT_PREFIX + name);
  return Object.keys(environment)
    .filter((name) => name.startsWith(ENVIRONMENT_PREFIX) && !known.includes(name))
    .sort()
    .map((name) => {
      const nearest = nearestWord(name, known, ENVIRONMENT_PREFIX.length);
      return `${name} is not a setting of this agent${nearest ? `; did you mean ${nearest}?` : ""}`;
    });
}

/** What is allowed but hardly meant. */
function doubts(settings: DeploySettings): string[] {
  const found: string[] = [];
  if (settings.reboot === "never" && settings.rebootWindow) {
    found.push("GRADIENT_DEPLOY_REBOOT_WINDOW has no effect while GRADIENT_DEPLOY_REBOOT is never");
  }
  if (settings.allowHttp && isOnTheWay(settings.server)) {
    found.push("the server is asked by http: the API key crosses the network unprotected");
  }
  return found;
}

/** Why the server must not be asked; null: it may. What was left on the host is ended all the same. */
export function serverTrouble({ server, allowHttp }: Pick<DeploySettings, "server" | "allowHttp">): string | null {
  if (allowHttp || !isOnTheWay(server)) return null;
  return (
    `GRADIENT_DEPLOY_SERVER=${server}: by http, who is on the way reads the API key and names builds and the keys ` +
    "to trust: root on this host. Use https (GRADIENT_DEPLOY_CA_FILE for a certificate authority of your own), or " +
    "set GRADIENT_DEPLOY_ALLOW_HTTP=true where the network itself is trusted"
  );
}

/** Whether others can read and change what is said between here and there. */
function isOnTheWay(server: string): boolean {
  return server.startsWith("http://") && !isHere(server);
}

/** Whether what is sent to the address stays on this machine. */
function isHere(server: string): boolean {
  return /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/.test(new URL(server).hostname);
}
