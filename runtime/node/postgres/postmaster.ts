import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import type { Logger } from "#core/ports/logger.ts";
import { type Account, commandFor } from "./account.ts";
import type { Binaries } from "./binaries.ts";
import { PostgresError } from "./error.ts";
import { postgresEnvironment } from "./initialize.ts";
import { readPostmasterFile } from "./postmaster-file.ts";

const POLL_MS = 20;
/** Crash recovery replays at most max_wal_size; a slow disk needs a while for that. */
const READY_MS = 120_000;
const FAST_STOP_MS = 15_000;
const IMMEDIATE_STOP_MS = 5_000;
const LINES_KEPT = 20;

export interface Launch {
  readonly binaries: Binaries;
  readonly account: Account;
  readonly data: string;
  readonly settings: readonly string[];
  readonly log: Logger;
}

/** What a statement is refused for: who sent it is told, and answers for it. */
const REFUSAL =
  /^ERROR: +(?:duplicate key value|.* violates |deadlock detected|could not serialize|canceling statement)/;

/**
 * A running `postgres`:
 *
 *     launch -> starting -> ready -> stopping -> ended
 *                  \__________\______________/    (its own death)
 */
export class Postmaster {
  /** Resolves when the process is gone, with the reason. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #data: string;
  readonly #lastLines: string[] = [];
  #gone: string | null = null;

  constructor({ binaries, account, data, settings, log }: Launch) {
    const command = commandFor(account, binaries.postgres, ["-D", data, ...settings], "INT");
    this.#data = data;
    this.#child = spawn(command.file, command.args, {
      ...command.user,
      cwd: "/",
      env: postgresEnvironment(binaries),
      stdio: ["ignore", "ignore", "pipe"],
      // Ctrl-C at a terminal goes to the whole process group; the database must outlive our own clean stop.
      detached: true,
    });
    this.ended = new Promise((resolve) => {
      const end = (reason: string): void => {
        this.#gone ??= reason;
        resolve(this.#gone);
      };
      this.#child.on("error", (error) => end(`could not be run: ${error.message}`));
      this.#child.on("close", (code, signal) => end(`ended with ${signal ?? `exit code ${code}`}`));
    });
    if (this.#child.stderr) {
      createInterface({ input: this.#child.stderr }).on("line", (line) => {
        this.#lastLines.push(line);
        if (this.#lastLines.length > LINES_KEPT) this.#lastLines.shift();
        const isBad = /^(?:WARNING|ERROR|FATAL|PANIC):/.test(line) && !REFUSAL.test(line);
        if (isBad) log.warn("PostgreSQL says", { line });
        else log.debug("PostgreSQL says", { line });
      });
    }
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What it printed last, newest at the end. */
  get lastWords(): string {
    return this.#lastLines.join("\n");
  }

  /** Resolves when it takes connections. Throws `PostgresError` when it ends first or takes too long. */
  async ready(): Promise<void> {
    for (let waited = 0; waited < READY_MS; waited += POLL_MS) {
      if (this.#gone !== null) throw new PostgresError(`PostgreSQL ${this.#gone}: ${this.lastWords}`);
      const file = await readPostmasterFile(this.#data);
      if (file?.pid === this.#child.pid && file?.ready) return;
      await sleep(POLL_MS);
    }
    throw new PostgresError(`PostgreSQL is not ready after ${READY_MS / 1000} s: ${this.lastWords}`);
  }

  /** Ends it: cleanly, or at the expense of a recovery at the next start when that takes too long. */
  async stop(): Promise<void> {
    for (const [signal, waitMs] of [
      ["SIGINT", FAST_STOP_MS],
      ["SIGQUIT", IMMEDIATE_STOP_MS],
    ] as const) {
      if (this.#gone !== null) return;
      this.#child.kill(signal);
      await this.#endsWithin(waitMs);
    }
    if (this.#gone !== null) return;
    this.#child.kill("SIGKILL");
    await this.ended;
  }

  async #endsWithin(ms: number): Promise<void> {
    const timer = new AbortController();
    await Promise.race([this.ended, sleep(ms, undefined, { signal: timer.signal })]);
    timer.abort();
  }
}
