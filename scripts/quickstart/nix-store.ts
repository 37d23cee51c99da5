import { randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { availableParallelism, tmpdir, userInfo } from "node:os";
import { dirname, join } from "node:path";
import { DaemonConnectionError } from "#core/nix/daemon/errors.ts";
import { DaemonSocket } from "#worker/daemon/socket.ts";
import { DEFAULT_SOCKET_PATH } from "#worker/daemon/store-url.ts";
import { groupSize, requireTrust, StoreUnusableError } from "#worker/store-facts.ts";
import { lastLines, runCommand } from "./commands.ts";
import type { DataFolder } from "./data-folder.ts";
import { QuickstartError } from "./problem.ts";
import type { Tools } from "./requirements.ts";
import { Service } from "./service.ts";

/** How Nix is reached in this run. */
export interface NixStore extends AsyncDisposable {
  /** For NIX_REMOTE. */
  readonly remote: string;
  /** Further variables for the worker and for commands of our own. */
  readonly variables: Readonly<Record<string, string>>;
  /** For people. */
  readonly description: string;
  /** Resolves when a daemon of ours ended. Never for the machine's. */
  readonly ended: Promise<string>;
}

export interface NixStoreOptions {
  readonly tools: Tools;
  readonly environment: Readonly<Record<string, string>>;
  /** Takes the machine's nix.conf (its substituters, keys and access tokens) along into a daemon of ours. */
  readonly withMachineSettings: boolean;
  readonly signal: AbortSignal;
}

const MACHINE_SETTINGS = "/etc/nix/nix.conf";
const BUILD_GROUP = "nixbld";
const START_MS_MAX = 15_000;
const STOP_MS = 5_000;
/** unix(7) leaves 107 bytes and a zero; the folder of a very long path would not fit. */
const SOCKET_PATH_BYTES_MAX = 107;
/** What `/bin/sh` needs in a sandbox. */
const SHELL_FOLDERS = ["/bin", "/usr", "/lib", "/lib64"];

/**
 * The machine's nix-daemon where it answers and trusts us, else one of our own for this run. Throws `QuickstartError`.
 */
export async function openNixStore(data: DataFolder, options: NixStoreOptions): Promise<NixStore> {
  const machine = await askMachineDaemon();
  if (machine === "usable") {
    return {
      remote: "daemon",
      variables: {},
      description: "this machine's nix-daemon",
      ended: new Promise(() => {}),
      async [Symbol.asyncDispose]() {},
    };
  }
  return await startOwnDaemon(data, options, machine);
}

type MachineDaemon = "usable" | "absent" | "distrustful";

async function askMachineDaemon(): Promise<MachineDaemon> {
  try {
    await requireTrust(DEFAULT_SOCKET_PATH);
    return "usable";
  } catch (error) {
    if (error instanceof StoreUnusableError) return "distrustful";
    if (error instanceof DaemonConnectionError) return "absent";
    throw error;
  }
}

/** As root with the machine's store, as an ordinary user with one in the data folder. */
async function startOwnDaemon(data: DataFolder, options: NixStoreOptions, machine: MachineDaemon): Promise<NixStore> {
  const { tools, environment, signal } = options;
  const folder = await data.makeFolder("nix");
  const isRoot = process.getuid?.() === 0;
  const root = isRoot ? null : await data.makeFolder("nix", "store");
  const home = await data.makeFolder("nix", "home");
  const variables = { NIX_CONF_DIR: folder, NIX_USER_CONF_FILES: "" };
  const commandEnvironment = { ...environment, ...variables, HOME: home };
  await writeFile(join(folder, "registry.json"), '{"version":2,"flakes":[]}\n');
  const sandbox = await findSandbox(options, { folder, root, commandEnvironment });

  const socket = await chooseSocket(folder);
  await rm(socket.path, { force: true });
  const storeUrl = root === null ? null : `local?root=${escapeUrl(root)}`;
  const service = Service.start({
    name: "our nix-daemon",
    command: tools.nixDaemon,
    args: storeUrl === null ? [] : ["--store", storeUrl],
    environment: { ...commandEnvironment, NIX_DAEMON_SOCKET_PATH: socket.path },
    folder: "/",
    logPath: join(await data.makeFolder("logs"), "nix-daemon.log"),
    deathSignal: "KILL",
    stopMs: STOP_MS,
  });
  const close = async () => {
    await service.stop();
    await socket.remove();
  };
  try {
    await service.waitFor(
      async () => ((await DaemonSocket.isAnswered(socket.path)) ? true : null),
      START_MS_MAX,
      signal,
    );
    await requireTrust(socket.path);
  } catch (error) {
    await close();
    throw error;
  }
  const reason = machine === "absent" ? "none answered" : `the machine's does not trust ${userInfo().username}`;
  const where = root === null ? "the machine's /nix/store" : `a store of its own (${root})`;
  return {
    remote: `unix://${escapeUrl(socket.path)}${root === null ? "" : `?root=${escapeUrl(root)}`}`,
    variables,
    description: `a nix-daemon of our own (${reason}), with ${where}, ${
      sandbox ? "builds in a sandbox" : "builds without a sandbox, which does not work here"
    }`,
    ended: service.ended,
    [Symbol.asyncDispose]: close,
  };
}

interface ProbeOptions {
  readonly folder: string;
  readonly root: string | null;
  readonly commandEnvironment: Readonly<Record<string, string>>;
}

/** Writes nix.conf with the sandbox if a build works in it. A store in a folder of its own has no other way. */
async function findSandbox(options: NixStoreOptions, probe: ProbeOptions): Promise<boolean> {
  const path = join(probe.folder, "nix.conf");
  await writeFile(path, nixConf(options, probe.folder, true), { mode: 0o600 });
  const sandboxed = await tryBuild(options, probe);
  if (sandboxed === null) return true;
  if (probe.root === null) {
    await writeFile(path, nixConf(options, probe.folder, false), { mode: 0o600 });
    const plain = await tryBuild(options, probe);
    if (plain === null) return false;
  }
  throw new QuickstartError(
    "Nix cannot build here. As an ordinary user it needs user namespaces; a nix-daemon of the machine that trusts " +
      `you (trusted-users in ${MACHINE_SETTINGS}) or root would do as well. Nix says:\n  ${sandboxed}`,
  );
}

/** Null when a build works, else Nix's own words. Leaves nothing in the store. */
async function tryBuild({ tools, signal }: NixStoreOptions, probe: ProbeOptions): Promise<string | null> {
  const nixBuild = join(dirname(tools.nix), "nix-build");
  const store = probe.root === null ? [] : ["--store", probe.root];
  const expression = `derivation {
    name = "gradient-probe"; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo ok > $out" ];
    unique = "${randomUUID()}";
  }`;
  const environment = { ...probe.commandEnvironment, NIX_REMOTE: "" };
  const run = (command: string, args: readonly string[]) =>
    runCommand(command, [...args, ...store], { environment, folder: probe.folder, signal });
  const { code, stdout, stderr } = await run(nixBuild, [
    "--no-out-link",
    "--option",
    "substitute",
    "false",
    "-E",
    expression,
  ]);
  if (code !== 0) return lastLines(stderr, 5).join("\n  ");
  await run(join(dirname(tools.nix), "nix-store"), ["--delete", stdout.trim()]);
  return null;
}

/**
 * For the example nothing of the machine's settings matters, and no substituter is asked: it works offline. For a
 * person's own flake the machine's settings come first, and only what this run rests on is said again.
 */
function nixConf({ withMachineSettings }: NixStoreOptions, folder: string, sandbox: boolean): string {
  const lines: [string, string][] = [
    ["experimental-features", "nix-command flakes"],
    ["sandbox", String(sandbox)],
    ["sandbox-paths", SHELL_FOLDERS.filter((path) => existsSync(path)).join(" ")],
    ["build-users-group", hasBuildUsers() ? BUILD_GROUP : ""],
    ["trusted-users", userInfo().username],
    ["max-jobs", String(availableParallelism())],
    ["connect-timeout", "5"],
    // Nix 2.8 needs a file here, and would look for the registry on the internet.
    ["flake-registry", join(folder, "registry.json")],
  ];
  if (!withMachineSettings) lines.push(["substituters", ""]);
  const first = withMachineSettings ? `!include ${MACHINE_SETTINGS}\n` : "";
  return first + lines.map(([name, value]) => `${name} = ${value}\n`).join("");
}

/** Only root switches to build users; a container often has none. */
function hasBuildUsers(): boolean {
  return process.getuid?.() === 0 && groupSize(readFileSync("/etc/group", "utf8"), BUILD_GROUP) !== null;
}

async function chooseSocket(folder: string): Promise<{ readonly path: string; remove(): Promise<void> }> {
  const path = join(folder, "socket");
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return { path, remove: () => rm(path, { force: true }) };
  const short = await mkdtemp(join(tmpdir(), "gradient-"));
  return { path: join(short, "socket"), remove: () => rm(short, { recursive: true, force: true }) };
}

function escapeUrl(path: string): string {
  return encodeURIComponent(path).replaceAll("%2F", "/");
}
