import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { DaemonSocket } from "#worker/daemon/socket.ts";
import { killProcesses, untilGone, withDescendants } from "./processes.ts";
import { removeTree } from "./temporary-folder.ts";

export interface NixDaemonOptions {
  /** The `sandbox` setting. Builds into a store of its own are sandboxed by Nix whatever it says. Default false. */
  readonly sandbox?: boolean;
  /** Further lines for nix.conf. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A nix-daemon with a store, a configuration and a home of its own. Disposing ends it and removes everything. */
export interface NixDaemon extends AsyncDisposable {
  /** For NIX_REMOTE. */
  readonly storeUrl: string;
  readonly socketPath: string;
  /** The store's files are below this folder: `${root}/nix/store/...`. */
  readonly root: string;
  /** A folder for whatever a test needs; removed with the daemon. */
  readonly folder: string;
  /** The daemon's settings, as written to nix.conf. */
  readonly conf: string;
  /** What Nix commands need to use this daemon and nothing of the machine's. */
  readonly env: Readonly<Record<string, string>>;
  readonly pid: number;
  readonly nixVersion: string;
  /** What the daemon wrote so far. */
  log(): Promise<string>;
  /** Ends the daemon and its processes at once, leaving the files. */
  kill(): Promise<void>;
  /** Starts it again on the same store and socket. */
  restart(): Promise<void>;
}

export type NixAvailability =
  | { readonly ok: true; readonly version: string }
  | { readonly ok: false; readonly reason: string };

export interface NixRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const START_MS_MAX = 15_000;
const END_MS_MAX = 5_000;

/** Whether Nix commands are there: on PATH, or in the folder GRADIENT_TEST_NIX_BIN. For `test.skipIf(!nix.ok)`. */
export function nixAvailable(): NixAvailability {
  const { stdout, error, status } = spawnSync("nix-daemon", ["--version"], { env: commandEnv({}), encoding: "utf8" });
  const version = /(\d+\.\d+[^\s]*)\s*$/.exec(stdout ?? "")?.[1];
  if (version) return { ok: true, version };
  const detail = error ? error.message : `exit code ${status}`;
  return {
    ok: false,
    reason: `nix-daemon does not run here (${detail}): install nix-bin or set GRADIENT_TEST_NIX_BIN`,
  };
}

/** Runs a command to its end and never throws for its exit code. */
export async function runNix(
  args: readonly [command: string, ...rest: string[]],
  env: Readonly<Record<string, string>>,
  { cwd, input }: { readonly cwd?: string; readonly input?: string } = {},
): Promise<NixRun> {
  const [command, ...rest] = args;
  const child = spawn(command, rest, { env: commandEnv(env), cwd, stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.on("error", () => {});
  child.stdin.end(input ?? "");
  const outputs = [child.stdout, child.stderr].map(async (stream) => {
    let text = "";
    for await (const chunk of stream.setEncoding("utf8")) text += chunk;
    return text;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, signal) => resolve(exitCode ?? (signal ? 128 : 1)));
  });
  const [stdout = "", stderr = ""] = await Promise.all(outputs);
  return { code, stdout, stderr };
}

/** As `runNix`, but a command that fails fails the test with what it wrote. Answers standard output, trimmed. */
export async function nixOutput(...[args, env, options]: Parameters<typeof runNix>): Promise<string> {
  const { code, stdout, stderr } = await runNix(args, env, options);
  if (code !== 0) throw new Error(`${args.join(" ")} ended with ${code}: ${stderr}`);
  return stdout.trim();
}

export async function withNixDaemon(options: NixDaemonOptions = {}): Promise<NixDaemon> {
  const available = nixAvailable();
  if (!available.ok) throw new Error(available.reason);
  const folder = await mkdtemp(join(tmpdir(), "gradient-nix-"));
  try {
    return await startDaemon(folder, available.version, options);
  } catch (error) {
    await removeTree(folder);
    throw error;
  }
}

async function startDaemon(folder: string, nixVersion: string, options: NixDaemonOptions): Promise<NixDaemon> {
  const [root, socketPath, configFolder, home, temporary] = ["store", "daemon.sock", "conf", "home", "tmp"].map(
    (name) => join(folder, name),
  ) as [string, string, string, string, string];
  for (const name of [root, configFolder, home, temporary]) await mkdir(name);
  await writeFile(join(folder, "registry.json"), '{"version":2,"flakes":[]}\n');
  const conf = nixConf(folder, options);
  await writeFile(join(configFolder, "nix.conf"), conf);

  const isolated = {
    HOME: home,
    NIX_CONF_DIR: configFolder,
    NIX_USER_CONF_FILES: "",
    XDG_CACHE_HOME: join(home, ".cache"),
  };
  const logPath = join(folder, "daemon.log");
  const readLog = () => readFile(logPath, "utf8").catch(() => "");
  const start = async (): Promise<ChildProcess> => {
    await rm(socketPath, { force: true });
    const child = spawn("nix-daemon", ["--store", `local?root=${root}`], {
      // A daemon that is killed leaves the folders of its builds behind.
      env: commandEnv({ ...isolated, NIX_DAEMON_SOCKET_PATH: socketPath, TMPDIR: temporary }),
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [child.stdout, child.stderr]) stream.pipe(createWriteStream(logPath, { flags: "a" }));
    await waitForSocket(child, socketPath, readLog);
    return child;
  };
  let child = await start();

  const storeUrl = `unix://${socketPath}?root=${root}`;
  const kill = () => endProcessTree(child);
  return {
    storeUrl,
    socketPath,
    root,
    folder,
    conf,
    nixVersion,
    env: { ...isolated, NIX_REMOTE: storeUrl },
    pid: child.pid as number,
    log: readLog,
    kill,
    async restart() {
      await kill();
      child = await start();
    },
    async [Symbol.asyncDispose]() {
      await kill();
      await removeTree(folder);
    },
  };
}

function nixConf(folder: string, { sandbox = false, settings = {} }: NixDaemonOptions): string {
  const lines = {
    "experimental-features": "nix-command flakes ca-derivations",
    // Without it every command asks a cache on the internet first.
    substituters: "",
    sandbox: String(sandbox),
    "sandbox-paths": "/bin /usr /lib /lib64",
    // With build users Nix 2.34 refuses stores below folders that all may write to.
    "build-users-group": "",
    "trusted-users": userInfo().username,
    "connect-timeout": "2",
    "max-jobs": "2",
    // Nix 2.8 needs a file.
    "flake-registry": join(folder, "registry.json"),
    ...settings,
  };
  return Object.entries(lines)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join("");
}

/** The caller's environment without its own Nix settings. */
function commandEnv(env: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("NIX_"));
  const bin = process.env.GRADIENT_TEST_NIX_BIN;
  const path = process.env.PATH ?? "/usr/bin:/bin";
  return { ...Object.fromEntries(inherited), PATH: bin ? `${bin}${delimiter}${path}` : path, ...env };
}

async function waitForSocket(child: ChildProcess, socketPath: string, log: () => Promise<string>): Promise<void> {
  let failure: Error | null = null;
  child.once("error", (error) => {
    failure = error;
  });
  const deadline = performance.now() + START_MS_MAX;
  while (!(await DaemonSocket.isAnswered(socketPath))) {
    if (failure) throw failure;
    if (child.exitCode !== null || performance.now() > deadline) {
      await endProcessTree(child);
      throw new Error(`nix-daemon did not start: ${await log()}`);
    }
    await sleep(10);
  }
  // Connections that lay out a new store at the same time come into each other's way. Some daemons refuse who asks.
  await DaemonConnection.open(socketPath).then(
    (connection) => connection.close(),
    () => {},
  );
}

/** The daemon, its process per connection and their builders, by their own ids. */
async function endProcessTree(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const processes = await withDescendants([child.pid]);
  // Parents first: none is left to report the end of its children.
  killProcesses(processes);
  await exited;
  await untilGone(processes, END_MS_MAX);
}
