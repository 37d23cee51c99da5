/** How the text of a setting is read. `settings-values.ts` has the exact rule of each. */
export type SettingKind =
  | "url"
  | "project"
  | "host"
  | "path"
  | "optional path"
  | "command"
  | "boolean"
  | "seconds"
  | "megabytes"
  | "choice"
  | "shell"
  | "shell list"
  | "unit list"
  | "key list"
  | "window";

export interface SettingSpec {
  readonly kind: SettingKind;
  /** As text, in the form that the environment has. Null: it has to be given. Empty: off, or as described. */
  readonly fallback: string | null;
  readonly description: string;
  /** The option of `system.gradient-deploy` that sets it. Null: for tests and unusual systems, by environment alone. */
  readonly option: string | null;
  /** Of numbers. */
  readonly range?: { readonly min: number; readonly max: number };
  /** Of choices. */
  readonly choices?: readonly string[];
}

export const MODES = ["switch", "boot", "test", "dry-activate"] as const;
/** What `switch-to-configuration` is asked to do. */
export type Mode = (typeof MODES)[number];

export const REBOOT_POLICIES = ["never", "when-needed"] as const;
export type RebootPolicy = (typeof REBOOT_POLICIES)[number];

export const SYSTEMD_CHOICES = ["auto", "true", "false"] as const;

const YEAR_SECONDS = 31_536_000;
const ABOUT_TIME = { min: 1, max: 86_400 } as const;

function command(fallback: string, description = `The ${fallback} command.`) {
  return { kind: "command", fallback, option: null, description } as const;
}

/**
 * Every setting, by its name in the environment without `GRADIENT_DEPLOY_`. The flag of each is its name in small
 * letters with dashes: `SERVER` is `GRADIENT_DEPLOY_SERVER` and `--server`. A flag outranks the environment.
 */
export const SETTINGS = {
  SERVER: {
    kind: "url",
    fallback: null,
    option: "server",
    description: "Address of the Gradient server, such as https://gradient.example.com.",
  },
  ALLOW_HTTP: {
    kind: "boolean",
    fallback: "false",
    option: "allowHttp",
    description: "Ask a server on another machine by http: whoever is on the way then decides what this host runs.",
  },
  TRUSTED_PUBLIC_KEYS: {
    kind: "key list",
    fallback: "",
    option: "trustedPublicKeys",
    description: "Keys of caches, with spaces between them, that are trusted instead of those that the server names.",
  },
  PROJECT: {
    kind: "project",
    fallback: null,
    option: "project",
    description: "Organization and project to watch, such as myorg/myproject.",
  },
  HOST: {
    kind: "host",
    fallback: "",
    option: "deployFor",
    description: "Name of this host among the project's nixosConfigurations. Empty: the machine's own name.",
  },
  API_KEY_FILE: {
    kind: "path",
    fallback: null,
    option: "apiKeyFile",
    description: "File with an API key that may read the project. It should be readable by its owner alone.",
  },
  MODE: {
    kind: "choice",
    choices: MODES,
    fallback: "switch",
    option: "mode",
    description: "What is done with a new build: switch, boot, test or dry-activate.",
  },
  ROLLBACK: {
    kind: "boolean",
    fallback: "true",
    option: "rollback.enable",
    description: "Go back to the generation before by itself when a new one fails or is unhealthy.",
  },
  SWITCH_TIMEOUT_SECS: {
    kind: "seconds",
    range: ABOUT_TIME,
    fallback: "1800",
    option: "switchTimeoutSec",
    description: "How long switch-to-configuration may take before it is ended and counts as failed.",
  },
  DOWNLOAD_TIMEOUT_SECS: {
    kind: "seconds",
    range: { min: 1, max: YEAR_SECONDS },
    fallback: "21600",
    option: "downloadTimeoutSec",
    description: "How long one download may take. What is there already is kept for the next run.",
  },
  SERVER_TIMEOUT_SECS: {
    kind: "seconds",
    range: { min: 1, max: 600 },
    fallback: "30",
    option: "serverTimeoutSec",
    description: "How long one request to the server may take.",
  },
  HOST_SUBSTITUTERS: {
    kind: "boolean",
    fallback: "true",
    option: "useHostSubstituters",
    description: "Use the substituters of the host's Nix beside the caches that the server names.",
  },
  DISK_MARGIN_MB: {
    kind: "megabytes",
    range: { min: 0, max: 100_000_000 },
    fallback: "512",
    option: "diskMarginMb",
    description: "Megabytes that must stay free on the store's disk after a download.",
  },
  HEALTH_UNITS: {
    kind: "boolean",
    fallback: "true",
    option: "health.units",
    description: "A unit that failed after the switch and had not failed before makes the new build unhealthy.",
  },
  HEALTH_IGNORED_UNITS: {
    kind: "unit list",
    fallback: "",
    option: "health.ignoredUnits",
    description: "Units that do not count, with spaces between them; * stands for anything.",
  },
  HEALTH_SERVER: {
    kind: "boolean",
    fallback: "true",
    option: "health.server",
    description: "A host that cannot reach the server any more after the switch is unhealthy.",
  },
  HEALTH_COMMANDS: {
    kind: "shell list",
    fallback: "[]",
    option: "health.commands",
    description: 'Shell commands that must all end with 0, as a JSON list: ["curl --fail http://localhost"].',
  },
  HEALTH_COMMAND_TIMEOUT_SECS: {
    kind: "seconds",
    range: ABOUT_TIME,
    fallback: "60",
    option: "health.commandTimeoutSec",
    description: "How long one health command may take.",
  },
  HEALTH_SETTLE_SECS: {
    kind: "seconds",
    range: { min: 0, max: 86_400 },
    fallback: "5",
    option: "health.settleSec",
    description: "How long a new build is watched at least before it counts as healthy.",
  },
  HEALTH_GRACE_SECS: {
    kind: "seconds",
    range: { min: 0, max: 86_400 },
    fallback: "60",
    option: "health.graceSec",
    description: "How long an unhealthy host has to become healthy before it is rolled back.",
  },
  BUSY_COMMAND: {
    kind: "shell",
    fallback: "",
    option: "busyCommand",
    description: "Shell command that ends with 0 while the host is busy: nothing is switched or rebooted then.",
  },
  WAIT_FOR_INHIBITORS: {
    kind: "boolean",
    fallback: "false",
    option: "waitForInhibitors",
    description: "Do not switch while somebody holds a blocking inhibitor against shutdown (systemd-inhibit).",
  },
  WAIT_SECS: {
    kind: "seconds",
    range: { min: 0, max: 604_800 },
    fallback: "3600",
    option: "waitSec",
    description: "How long a run waits for a busy host before it leaves the switch to the next run.",
  },
  REBOOT: {
    kind: "choice",
    choices: REBOOT_POLICIES,
    fallback: "never",
    option: "reboot.policy",
    description:
      "when-needed: reboot when the new build has another kernel, initrd or kernel modules, or mode is boot.",
  },
  REBOOT_WINDOW: {
    kind: "window",
    fallback: "",
    option: "reboot.window",
    description: "Local time in which a reboot is allowed, such as 02:00-05:00. Empty: always.",
  },
  REPORT: {
    kind: "boolean",
    fallback: "true",
    option: "report",
    description: "Tell the server every step.",
  },
  WATCH_WAIT_SECS: {
    kind: "seconds",
    range: { min: 1, max: 60 },
    fallback: "55",
    option: "watch.waitSec",
    description: "How long one question of `watch` waits at the server for news.",
  },
  CA_FILE: {
    kind: "optional path",
    fallback: "",
    option: "caFile",
    description: "Certificates to trust beside the usual ones. Empty: NIX_SSL_CERT_FILE, then SSL_CERT_FILE, if set.",
  },
  NETRC_FILE: {
    kind: "optional path",
    fallback: "/etc/nix/netrc",
    option: "netrcFile",
    description: "The host's own netrc file: Nix gets its lines beside those for the private caches of the server.",
  },
  STATE_DIR: {
    kind: "path",
    fallback: "",
    option: null,
    description: "Where the agent keeps its state. Empty: STATE_DIRECTORY of the unit, else /var/lib/gradient-deploy.",
  },
  PROFILE: {
    kind: "path",
    fallback: "/nix/var/nix/profiles/system",
    option: null,
    description: "The system profile.",
  },
  CURRENT_SYSTEM: {
    kind: "path",
    fallback: "/run/current-system",
    option: null,
    description: "The link to the running system.",
  },
  BOOTED_SYSTEM: {
    kind: "path",
    fallback: "/run/booted-system",
    option: null,
    description: "The link to the system that was booted.",
  },
  BOOT_ID_FILE: {
    kind: "path",
    fallback: "/proc/sys/kernel/random/boot_id",
    option: null,
    description: "File whose content changes with every boot.",
  },
  STORE_ROOT: {
    kind: "optional path",
    fallback: "",
    option: null,
    description: "Folder that holds the store when it is not at /nix/store: the root of a Nix chroot store.",
  },
  SYSTEMD: {
    kind: "choice",
    choices: SYSTEMD_CHOICES,
    fallback: "auto",
    option: null,
    description: "Whether systemd runs switch-to-configuration as a unit. auto: when /run/systemd/system is there.",
  },
  BINPATH_NIX_STORE: command("nix-store"),
  BINPATH_NIX_ENV: command("nix-env"),
  BINPATH_SYSTEMCTL: command("systemctl"),
  BINPATH_SYSTEMD_RUN: command("systemd-run"),
  BINPATH_SYSTEMD_INHIBIT: command("systemd-inhibit"),
  BINPATH_SHELL: command("/bin/sh", "The shell that runs commands of settings and waits for switch-to-configuration."),
} as const satisfies Readonly<Record<string, SettingSpec>>;

export type SettingName = keyof typeof SETTINGS;
export const SETTING_NAMES = Object.keys(SETTINGS) as readonly SettingName[];

export const ENVIRONMENT_PREFIX = "GRADIENT_DEPLOY_";

/** `--switch-timeout-secs` */
export function flagOf(name: SettingName): string {
  return `--${name.toLowerCase().replaceAll("_", "-")}`;
}
