import { readFile, stat } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import type { BasicDerivation } from "#core/nix/daemon/build.ts";
import { DaemonError } from "#core/nix/daemon/errors.ts";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { PREPARED_MAX } from "./build-places.ts";
import type { WorkerConfig } from "./config.ts";
import { DaemonConnection } from "./daemon/connection.ts";
import { ProcessStartError, runProcess } from "./evaluation/process.ts";
import type { WorkerFacts } from "./session/introduction.ts";

/** What this machine offers, as the server is told. */
export interface StoreFacts extends WorkerFacts {
  readonly nixVersion: string;
  /** `min-free` of the machine's Nix: bytes below which it collects garbage by itself. 0: it never does. */
  readonly minFreeBytes: number;
}

/** The worker cannot work here. The message says why and what to do. */
export class StoreUnusableError extends Error {
  override readonly name = "StoreUnusableError";
}

/** The settings of Nix that decide what may be built here. */
export interface NixSettings {
  readonly system: string;
  readonly extraPlatforms: readonly string[];
  readonly systemFeatures: readonly string[];
  /** Empty: builds run as the daemon's user. */
  readonly buildUsersGroup: string;
  /** Nix makes up users as it needs them. */
  readonly autoAllocateUids: boolean;
  readonly minFreeBytes: number;
}

/** Connections that builds leave to NARs and evaluations: a quarter, at least two. */
const RESERVE_SHARE = 4;
const RESERVE_MIN = 2;
const COMMAND_TIMEOUT_MS = 30_000;
const OUTPUT_BYTES_MAX = 4 * 1024 * 1024;

/** No machine has this system, so that nothing is ever built. */
const PROBE_PATH = "/nix/store/00000000000000000000000000000000-gradient-trust-probe" as StorePath;
const PROBE: BasicDerivation = {
  outputs: new Map([["out", { path: PROBE_PATH, hashAlgorithm: "", hash: "" }]]),
  system: "gradient-trust-probe",
  builder: "/bin/sh",
  args: [],
  env: new Map(),
  inputSources: [],
};

/** Asks the daemon and Nix. Throws `DaemonConnectionError` when no daemon answers, and `StoreUnusableError`. */
export async function readStoreFacts(config: WorkerConfig): Promise<StoreFacts> {
  const nixVersion = await requireTrust(config.daemonStore.socketPath);
  const settings = await readNixSettings(config);
  return {
    architectures: config.architectures ?? [settings.system, ...settings.extraPlatforms],
    systemFeatures: config.systemFeatures ?? settings.systemFeatures,
    maxConcurrentBuilds: buildSlots({
      buildsMax: config.buildsMax,
      daemonConnectionsMax: config.daemonConnectionsMax,
      buildUsers: await countBuildUsers(settings, config.daemonStore.socketPath),
    }),
    maxConcurrentEvaluations: config.evaluationsMax,
    cpuCount: availableParallelism(),
    ramTotalMb: Math.floor(totalmem() / 2 ** 20),
    nixVersion,
    minFreeBytes: settings.minFreeBytes,
  };
}

/** How many builds run at a time without one waiting for another's connection or user. At least one. */
export function buildSlots(limits: {
  readonly buildsMax: number;
  readonly daemonConnectionsMax: number;
  /** Null: as many as are needed. */
  readonly buildUsers: number | null;
}): number {
  const { buildsMax, daemonConnectionsMax, buildUsers } = limits;
  const reserve = Math.max(RESERVE_MIN, Math.ceil(daemonConnectionsMax / RESERVE_SHARE));
  return Math.max(1, Math.min(buildsMax, daemonConnectionsMax - reserve, buildUsers ?? buildsMax));
}

/** How many builds may be prepared without a place, so that those with one find connections to bring their inputs. */
export function preparedBuilds({
  places,
  connections,
}: {
  readonly places: number;
  readonly connections: number;
}): number {
  return Math.max(0, Math.min(PREPARED_MAX, connections - places - RESERVE_MIN));
}

/** The daemon's version. Throws `DaemonConnectionError`, and `StoreUnusableError` when we may not build by value. */
export async function requireTrust(socketPath: string): Promise<string> {
  using connection = await DaemonConnection.open(socketPath);
  const { trust, nixVersion } = connection.greeting;
  const trusted = trust === "unknown" ? await mayBuildByValue(connection) : trust === "trusted";
  if (trusted) return nixVersion;
  throw new StoreUnusableError(
    `the nix-daemon at ${socketPath} does not trust this user: add the user to trusted-users in its nix.conf and ` +
      "restart it (a worker imports what the server verified, which only a trusted user may)",
  );
}

/** Daemons before protocol 1.35 do not say whether they trust us; they refuse this before they look at the system. */
async function mayBuildByValue(connection: DaemonConnection): Promise<boolean> {
  try {
    // Without it the daemon would look for the path in its substituters.
    await connection.setOptions(defaultDaemonOptions);
    await connection.buildDerivation(`${PROBE_PATH}.drv` as StorePath, PROBE);
    return true;
  } catch (error) {
    if (!(error instanceof DaemonError)) throw error;
    if (/not privileged/.test(error.message)) return false;
    return true;
  }
}

async function readNixSettings({ nixCommand, childVariables, nixRemote, dataDir }: WorkerConfig): Promise<NixSettings> {
  const run = (args: readonly string[]) =>
    runProcess({
      command: nixCommand,
      args: ["--extra-experimental-features", "nix-command", ...args, "--json"],
      environment: { ...childVariables, HOME: dataDir, NIX_REMOTE: nixRemote, NIX_USER_CONF_FILES: "" },
      folder: "/",
      timeoutMs: COMMAND_TIMEOUT_MS,
      stdoutBytesMax: OUTPUT_BYTES_MAX,
      stderrBytesMax: OUTPUT_BYTES_MAX,
    });
  let end = await run(["show-config"]).catch((error: unknown) => {
    if (!(error instanceof ProcessStartError)) throw error;
    const message = `${error.message}: install Nix 2.8 or later, or name its command in GRADIENT_BINPATH_NIX`;
    throw new StoreUnusableError(message, { cause: error });
  });
  // Its newer name.
  if (end.code !== 0) end = await run(["config", "show"]);
  const settings = end.code === 0 ? parseNixSettings(end.stdout) : null;
  if (settings) return settings;
  throw new StoreUnusableError(
    `\`${nixCommand} show-config\` does not tell the settings of Nix (exit code ${end.code}): ` +
      "install Nix 2.8 or later, or name it in GRADIENT_BINPATH_NIX",
  );
}

/** Reads the JSON of `nix show-config`; null when it is something else. */
export function parseNixSettings(json: string): NixSettings | null {
  let whole: unknown;
  try {
    whole = JSON.parse(json);
  } catch {
    return null;
  }
  const value = (name: string): unknown => (whole as Record<string, { value?: unknown } | undefined>)?.[name]?.value;
  const system = value("system");
  if (typeof system !== "string") return null;
  const group = value("build-users-group");
  const minFree = value("min-free");
  return {
    system,
    extraPlatforms: texts(value("extra-platforms")),
    systemFeatures: texts(value("system-features")),
    buildUsersGroup: typeof group === "string" ? group : "",
    autoAllocateUids: value("auto-allocate-uids") === true,
    minFreeBytes: typeof minFree === "number" ? minFree : 0,
  };
}

function texts(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

/** Null where builds do not wait for users: only a daemon of root's switches to them. */
async function countBuildUsers(settings: NixSettings, socketPath: string): Promise<number | null> {
  const { buildUsersGroup, autoAllocateUids } = settings;
  const daemonIsRoot = (await stat(socketPath)).uid === 0;
  if (buildUsersGroup === "" || autoAllocateUids || !daemonIsRoot) return null;
  const groups = await readFile("/etc/group", "utf8").catch(() => "");
  return groupSize(groups, buildUsersGroup);
}

/** Members of a group by the text of /etc/group (group(5)); null when it is not listed there. */
export function groupSize(groups: string, name: string): number | null {
  const line = groups.split("\n").find((entry) => entry.startsWith(`${name}:`));
  if (line === undefined) return null;
  const members = (line.split(":")[3] ?? "").split(",").filter((member) => member !== "");
  return members.length > 0 ? members.length : null;
}
