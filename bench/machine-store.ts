import { execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { access, constants, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { type Gradient, ORGANIZATION } from "#test/e2e/gradient.ts";
import { startService } from "#test/e2e/process.ts";
import { NAME_PREFIX } from "./flakes.ts";

const run = promisify(execFile);
const STORE = "/nix/store";

/** Unsandboxed builds: a store of its own folder is always sandboxed, so they go into the machine's store. */
export interface UnsandboxedWorker extends AsyncDisposable {
  /** For Nix commands that use the same daemon. */
  readonly env: Readonly<Record<string, string>>;
}

/** Why this machine's store cannot be used here, or null. */
export async function whyNoMachineStore(): Promise<string | null> {
  if (process.getuid?.() !== 0) return "only root may start a daemon on the machine's store";
  const writable = await access(STORE, constants.W_OK).then(
    () => true,
    () => false,
  );
  return writable ? null : `${STORE} is not there, or is not writable`;
}

/**
 * Ends the installation's worker and starts one that uses the machine's store through a daemon of its own with
 * `sandbox = false`. Disposing ends both and deletes what was built.
 */
export async function startUnsandboxedWorker(gradient: Gradient, buildsMax: number): Promise<UnsandboxedWorker> {
  await gradient.worker.stop();
  await using started = new AsyncDisposableStack();
  const folder = join(gradient.folder, "machine-store");
  const before = new Set(await readdir(STORE));
  const env = await configure(folder, gradient.daemon.conf);
  const socketPath = join(folder, "daemon.sock");
  const daemon = spawn("nix-daemon", [], { env: { ...env, NIX_DAEMON_SOCKET_PATH: socketPath }, stdio: "ignore" });
  started.defer(async () => {
    daemon.kill("SIGTERM");
    await deleteNewPaths(before, env);
  });
  while (!(await stat(socketPath).catch(() => null))) {
    if (daemon.exitCode !== null) throw new Error("nix-daemon did not start on the machine's store");
    await sleep(10);
  }
  const remote = { ...env, NIX_REMOTE: `unix://${socketPath}` };
  const worker = await startWorker(gradient, { folder, buildsMax, remote });
  started.use(worker);
  const running = started.move();
  return { env: remote, [Symbol.asyncDispose]: () => running.disposeAsync() };
}

async function configure(folder: string, conf: string): Promise<Record<string, string>> {
  const home = join(folder, "home");
  await mkdir(home, { recursive: true });
  await writeFile(join(folder, "nix.conf"), conf);
  return {
    PATH: process.env.PATH ?? "/usr/bin:/bin",
    HOME: home,
    NIX_CONF_DIR: folder,
    NIX_USER_CONF_FILES: "",
    NIX_REMOTE: "",
  };
}

interface WorkerPlace {
  readonly folder: string;
  readonly buildsMax: number;
  readonly remote: Readonly<Record<string, string>>;
}

async function startWorker(gradient: Gradient, { folder, buildsMax, remote }: WorkerPlace): Promise<AsyncDisposable> {
  const workerId = randomUUID();
  const path = `/orgs/${ORGANIZATION}/workers`;
  const registered = await gradient.api.request<{ peer_id: string; token: string }>("POST", path, {
    worker_id: workerId,
  });
  const peersFile = join(folder, "peers");
  await writeFile(peersFile, `${registered.peer_id}:${registered.token}\n`);
  const worker = startService("worker/main.ts", {
    ...remote,
    GRADIENT_WORKER_SERVER_URL: `${gradient.url.replace("http", "ws")}/proto`,
    GRADIENT_WORKER_DATA_DIR: join(folder, "worker"),
    GRADIENT_WORKER_ID: workerId,
    GRADIENT_WORKER_PEERS_FILE: peersFile,
    GRADIENT_WORKER_GCROOTS_DIR: join(folder, "gcroots"),
    GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_WORKER_CAPABILITY_FETCH: "true",
    GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURRENT_BUILDS: String(buildsMax),
  });
  await worker.waitFor("connected to the server");
  return worker;
}

/** Of what came into the store meanwhile, only what carries our names: others may be using it. */
async function deleteNewPaths(before: ReadonlySet<string>, env: Readonly<Record<string, string>>): Promise<void> {
  const added = (await readdir(STORE)).filter((name) => !before.has(name));
  const ours: string[] = [];
  for (const name of added) {
    const isSource = name.endsWith("-source");
    const flake = isSource ? await readFile(join(STORE, name, "flake.nix"), "utf8").catch(() => "") : "";
    if (name.includes(`-${NAME_PREFIX}`) || flake.includes(`"${NAME_PREFIX}`)) ours.push(join(STORE, name));
  }
  if (ours.length > 0) await run("nix-store", ["--delete", ...ours], { env, maxBuffer: 2 ** 26 });
}
