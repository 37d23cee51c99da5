import { type ChildProcess, spawn } from "node:child_process";
import { chmod, chown, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Clock, SECOND, sleep } from "#core/lib/clock.ts";
import { DaemonConnection } from "../daemon/connection.ts";
import { DaemonSocket } from "../daemon/socket.ts";
import type { DaemonStore } from "../daemon/store-url.ts";
import { makeFolder } from "../folders.ts";
import { endLeftDaemon, PID_FILE } from "./left-daemon.ts";

export interface PrivateDaemonOptions {
  /** Absolute. Holds the store, the socket and the daemon's home; it is made if it is not there. */
  readonly folder: string;
  /** Who may pass through the folder beside its owner. Null: nobody. */
  readonly group: number | null;
  readonly nixCommand: string;
  /** The daemon's environment; nothing else is inherited. */
  readonly variables: Readonly<Record<string, string>>;
  /** Settings that go before those of nix.conf, by their names there. */
  readonly settings: Readonly<Record<string, string>>;
  readonly clock: Clock;
}

/** The daemon did not start, or has ended. The message says what it said. */
export class PrivateDaemonError extends Error {
  override readonly name = "PrivateDaemonError";
}

const START_MS_MAX: number = 15 * SECOND;
const START_POLL_MS = 10;
const STOP_MS_MAX: number = 5 * SECOND;
/** sun_path of unix(7), with its final zero. */
const SOCKET_PATH_BYTES_MAX = 107;
const SAID_CHARACTERS_MAX = 2_000;

/**
 * Writes down who it is before it becomes the daemon: a worker that is killed right after the start leaves a daemon
 * that the next worker finds. Where there is no /proc it goes unfound.
 */
const LAUNCHER = 'read -r line < /proc/$$/stat && printf "%s\\n" "$line" > "$0"; exec "$@"';

/** A nix-daemon with a store of its own, and with nobody but this worker (and its evaluators) to talk to. */
export class PrivateDaemon {
  readonly store: DaemonStore;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #said = "";

  /** Throws `PrivateDaemonError` when no daemon listens after 15 s. A daemon that was left behind is ended first. */
  static async start(options: PrivateDaemonOptions): Promise<PrivateDaemon> {
    const daemon = new PrivateDaemon(await prepare(options), options);
    try {
      await daemon.#listening(options.clock);
      return daemon;
    } catch (error) {
      await daemon.stop(options.clock);
      throw error;
    }
  }

  private constructor(store: DaemonStore, { folder, nixCommand, variables, settings }: PrivateDaemonOptions) {
    this.store = store;
    const overrides = Object.entries(settings).flatMap(([name, value]) => ["--option", name, value]);
    const command = [nixCommand, "--extra-experimental-features", "nix-command ca-derivations", "daemon", ...overrides];
    this.#child = spawn("/bin/sh", ["-c", LAUNCHER, join(folder, PID_FILE), ...command], {
      cwd: folder,
      env: {
        ...variables,
        HOME: join(folder, "home"),
        NIX_REMOTE: `local?root=${store.root}`,
        NIX_DAEMON_SOCKET_PATH: store.socketPath,
        NIX_USER_CONF_FILES: "",
      },
      stdio: ["ignore", "ignore", "pipe"],
      // What a terminal's Ctrl-C tells the worker, which lets builds finish, is not for the daemon.
      detached: true,
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said = (this.#said + text).slice(-SAID_CHARACTERS_MAX);
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", (error) => {
        this.#said += error.message;
        resolve();
      });
    });
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Asks it to end, and makes it after 5 s. Processes that serve connections end when these are closed. */
  async stop(clock: Clock): Promise<void> {
    if (this.running) {
      this.#child.kill("SIGTERM");
      const cancel = clock.schedule(STOP_MS_MAX, () => this.#child.kill("SIGKILL"));
      await this.#ended;
      cancel();
    }
  }

  async #listening(clock: Clock): Promise<void> {
    const deadline = clock.monotonic() + START_MS_MAX;
    while (!(await DaemonSocket.isAnswered(this.store.socketPath))) {
      if (!this.running || clock.monotonic() > deadline) {
        const said = this.#said.trim() || "it says nothing";
        throw new PrivateDaemonError(`the nix-daemon of the store ${this.store.root} did not start: ${said}`);
      }
      await sleep(clock, START_POLL_MS);
    }
    // Connections that lay out a new store at the same time come into each other's way: one of ours goes first.
    const first = await DaemonConnection.open(this.store.socketPath, { clock }).catch((cause: Error) => {
      const message = `the nix-daemon of the store ${this.store.root} answers nobody: ${cause.message}`;
      throw new PrivateDaemonError(message, { cause });
    });
    first.close();
  }
}

async function prepare({ folder, group, clock }: PrivateDaemonOptions): Promise<DaemonStore> {
  const store = { socketPath: join(folder, "socket"), root: join(folder, "root") };
  if (Buffer.byteLength(store.socketPath) > SOCKET_PATH_BYTES_MAX) {
    throw new PrivateDaemonError(
      `${store.socketPath} is too long for a socket: name a shorter folder in GRADIENT_WORKER_DATA_DIR`,
    );
  }
  // To get there an evaluator has to pass through the folder above, which others may see neither.
  await makeFolder(dirname(folder), group === null ? 0o700 : 0o711);
  await makeFolder(folder, 0o700);
  if (group !== null) await chown(folder, (await stat(folder)).uid, group);
  await chmod(folder, group === null ? 0o700 : 0o710);
  await makeFolder(store.root, 0o755);
  await makeFolder(join(folder, "home"), 0o700);
  await endLeftDaemon(folder, clock);
  return store;
}
