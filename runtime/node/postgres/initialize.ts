import { spawn } from "node:child_process";
import { chown, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { searchPath } from "../config/environment.ts";
import { hasCode } from "../files.ts";
import type { Account } from "./account.ts";
import { commandFor } from "./account.ts";
import type { Binaries } from "./binaries.ts";
import { PostgresError } from "./error.ts";

export const SUPERUSER = "gradient";
const INITDB_TIMEOUT_MS = 120_000;
const OUTPUT_CHARACTERS_MAX = 8_000;

export interface Initialization {
  readonly binaries: Binaries;
  readonly account: Account;
  /** Holds `data`. */
  readonly home: string;
  readonly password: string;
  readonly durable: boolean;
}

/**
 * Makes `home/data`. It appears whole or not at all: initdb works in a folder of another name, which a start that was
 * cut short leaves behind and the next one removes.
 */
export async function initializeData(options: Initialization): Promise<void> {
  const { binaries, account, home, password, durable } = options;
  const unfinished = join(home, "data.unfinished");
  const passwordFile = join(home, "initial-password");
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { mode: 0o700 });
  await writeFile(passwordFile, password, { mode: 0o600 });
  if (account.kind === "user") {
    await chown(unfinished, account.uid, account.gid);
    await chown(passwordFile, account.uid, account.gid);
  }
  const args = ["-D", unfinished, "-U", SUPERUSER, "-A", "scram-sha-256", `--pwfile=${passwordFile}`];
  args.push("--no-locale", "-E", "UTF8", "--no-instructions", ...(durable ? [] : ["--no-sync"]));
  try {
    await run(account, binaries, args);
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(unfinished, join(home, "data"));
}

/** The major version that made the data; null where there is no data yet. */
export async function dataMajorVersion(home: string): Promise<number | null> {
  try {
    return Number.parseInt(await readFile(join(home, "data", "PG_VERSION"), "utf8"), 10);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}

/** PostgreSQL's environment: nothing of ours leaks in, and its words are English. */
export function postgresEnvironment(binaries: Binaries): NodeJS.ProcessEnv {
  return {
    PATH: searchPath(),
    LC_ALL: "C",
    TZ: "UTC",
    ...(binaries.libraryFolders.length > 0 && { LD_LIBRARY_PATH: binaries.libraryFolders.join(":") }),
  };
}

/** Runs a program of PostgreSQL to its end and answers what it printed. */
export async function readOutput(account: Account, binaries: Binaries, file: string, args: string[]): Promise<string> {
  const command = commandFor(account, file, args);
  const child = spawn(command.file, command.args, {
    ...command.user,
    cwd: "/",
    env: postgresEnvironment(binaries),
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const append = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-OUTPUT_CHARACTERS_MAX);
  };
  child.stdout.on("data", append);
  child.stderr.on("data", append);
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(error.message));
    child.on("close", (code, signal) => resolve(code === 0 ? "" : `ended with ${signal ?? `exit code ${code}`}`));
  });
  const timeout = new AbortController();
  const outcome = await Promise.race([
    ended,
    sleep(INITDB_TIMEOUT_MS, `still ran after ${INITDB_TIMEOUT_MS / 1000} s`, { signal: timeout.signal, ref: false }),
  ]);
  timeout.abort();
  if (outcome === "") return output;
  child.kill("SIGKILL");
  throw new PostgresError(`${file} ${outcome}: ${output.trim()}`);
}

async function run(account: Account, binaries: Binaries, args: string[]): Promise<void> {
  await readOutput(account, binaries, binaries.initdb, args);
}
