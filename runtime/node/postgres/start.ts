import { randomBytes } from "node:crypto";
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import pg from "pg";
import type { Logger } from "#core/ports/logger.ts";
import { hasCode, writeFileAtomically } from "../files.ts";
import { lockFolder } from "../folder-lock.ts";
import { PostgresError } from "./error.ts";
import { chooseHome, type Home, recordLocation } from "./home.ts";
import { dataMajorVersion, initializeData, readOutput, SUPERUSER } from "./initialize.ts";
import { Postmaster } from "./postmaster.ts";
import { endLeftover } from "./postmaster-file.ts";
import { type PostgresSettings, settingArguments } from "./settings.ts";
import { makeSocketFolder, SOCKET_PORT } from "./socket-folder.ts";

const DATABASE = "gradient";

export interface PostgresOptions extends Partial<PostgresSettings> {
  /** Made when it does not exist, with mode 0700. */
  readonly folder: string;
  readonly binariesFolder?: string;
  readonly asOtherUser?: boolean;
  readonly sharedStateFolder?: string;
  readonly log: Logger;
}

export interface DatabaseAddress {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  readonly password: string;
  readonly database: string;
}

export interface RunningPostgres {
  readonly address: DatabaseAddress;
  /** Where the data really is. */
  readonly home: string;
  readonly pid: number;
  /** Resolves with the reason when the process is gone, also after `stop`. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts PostgreSQL on the folder, which it makes at the first start. It listens on a Unix socket only and ends when we
 * do, however that is. Throws `PostgresError` with words for the operator.
 */
export async function startPostgres(options: PostgresOptions): Promise<RunningPostgres> {
  const folder = resolve(options.folder);
  const { log, connectionsMax = 48, durable = true } = options;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await chmod(folder, 0o700);
  const lock = lockFolder(folder);
  if (!lock) throw new PostgresError(`another server is running on ${folder}: stop it first, or use another folder`);

  let postmaster: Postmaster | null = null;
  try {
    const home = await chooseHome({ sharedStateFolder: "/var/lib", ...options, folder }, log);
    const { path, account, binaries } = home;
    const data = join(path, "data");
    const leftover = await endLeftover(data);
    if (leftover !== null) log.warn("ended the PostgreSQL of a server that was killed", { pid: leftover });

    const major = await programMajorVersion(home);
    const password = await prepareData(home, major, durable);
    await recordLocation(folder, home);
    const socket = await makeSocketFolder(path, account);
    const settings = settingArguments(socket.path, { connectionsMax, durable }, major);
    postmaster = new Postmaster({ binaries, account, data, settings, log });
    await postmaster.ready();

    const server = { host: socket.path, port: SOCKET_PORT, user: SUPERUSER, password };
    await createDatabase({ ...server, database: "postgres" });
    const running = postmaster;
    const stop = async (): Promise<void> => {
      await running.stop();
      await socket.remove();
      lock.release();
    };
    const { ended, pid = 0 } = running;
    return { address: { ...server, database: DATABASE }, home: path, pid, ended, stop };
  } catch (error) {
    await postmaster?.stop();
    lock.release();
    throw error;
  }
}

async function programMajorVersion({ account, binaries }: Home): Promise<number> {
  const text = await readOutput(account, binaries, binaries.postgres, ["--version"]);
  const major = /\(PostgreSQL\) (\d+)/.exec(text)?.[1];
  if (!major) throw new PostgresError(`${binaries.postgres} does not say its version: ${text.trim()}`);
  return Number(major);
}

/** Answers the superuser's password. */
async function prepareData(home: Home, major: number, durable: boolean): Promise<string> {
  const passwordFile = join(home.path, "password");
  const existing = await dataMajorVersion(home.path);
  if (existing !== null && existing !== major) {
    throw new PostgresError(
      `${join(home.path, "data")} was made by PostgreSQL ${existing}, and this is PostgreSQL ${major}. ` +
        `Start the release that brought PostgreSQL ${existing} once more and dump the database (pg_dump), ` +
        "move the folder away, start this release and restore the dump; " +
        `or run the data with a PostgreSQL ${existing} and set GRADIENT_DATABASE_URL`,
    );
  }
  if (existing !== null) {
    try {
      return (await readFile(passwordFile, "utf8")).trim();
    } catch (error) {
      if (!hasCode(error, "ENOENT")) throw error;
      throw new PostgresError(`${passwordFile} is missing: restore it from the backup that the data came from`);
    }
  }
  const password = randomBytes(32).toString("base64url");
  await writeFileAtomically(passwordFile, password, 0o600);
  await initializeData({ ...home, home: home.path, password, durable });
  return password;
}

async function createDatabase(address: DatabaseAddress): Promise<void> {
  const client = new pg.Client({ ...address, ssl: false });
  await client.connect();
  try {
    const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [DATABASE]);
    if (rowCount === 0) await client.query(`create database ${DATABASE}`);
  } finally {
    await client.end();
  }
}
