import { createHash } from "node:crypto";
import { mkdir, readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import type { Logger } from "#core/ports/logger.ts";
import { hasCode, writeFileAtomically } from "../files.ts";
import { type Account, chooseAccount, otherUserAccount, works } from "./account.ts";
import { type Binaries, copyBinaries, installedBinaries, packagedBinaries } from "./binaries.ts";
import { PostgresError } from "./error.ts";
import { dataMajorVersion, postgresEnvironment } from "./initialize.ts";

/** Where PostgreSQL lives, who it runs as, and what is run. */
export interface Home {
  readonly path: string;
  readonly account: Account;
  readonly binaries: Binaries;
}

export interface HomeOptions {
  readonly folder: string;
  /** A folder with `initdb` and `postgres`; the bundled ones when absent. */
  readonly binariesFolder?: string | undefined;
  /** Skips the attempt to keep our own user id; for tests. */
  readonly asOtherUser?: boolean | undefined;
  /** Below which data goes that must not lie below `folder`. */
  readonly sharedStateFolder: string;
}

/** Says, in `folder`, where the data went when another user had to be able to reach it. */
const LOCATION_FILE = "location";

/**
 * Data stays in `folder` wherever PostgreSQL can run with our own user id. Otherwise it runs as another user, who
 * cannot reach a private `folder`: then everything is below `sharedStateFolder`. Data that exists decides.
 */
export async function chooseHome(options: HomeOptions, log: Logger): Promise<Home> {
  const { folder, asOtherUser, sharedStateFolder } = options;
  const moved = await readLocation(folder);
  const account = moved !== null || asOtherUser ? otherUserAccount() : chooseAccount();
  const binaries = options.binariesFolder
    ? installedBinaries(options.binariesFolder)
    : await packagedBinaries(join(folder, "libraries"));
  if (account.kind !== "user") return { path: folder, account, binaries };

  const label = createHash("sha256")
    .update(await realpath(folder))
    .digest("hex")
    .slice(0, 16);
  const path = moved ?? join(sharedStateFolder, `gradient-postgres-${label}`);
  if ((await dataMajorVersion(folder)) !== null) {
    throw new PostgresError(
      `PostgreSQL must run as the user ${account.name} here, who cannot reach ${folder}. Move the database: ` +
        `mkdir ${path} && mv ${folder}/data ${folder}/password ${path}/ && chown -R ${account.name} ${path}/data && ` +
        `printf %s ${path} > ${join(folder, LOCATION_FILE)}`,
    );
  }
  if (moved !== null && (await dataMajorVersion(moved)) === null) {
    throw new PostgresError(
      `the database should be in ${moved}, but is not there. Restore it from a backup, or remove ` +
        `${join(folder, LOCATION_FILE)} to start with an empty one`,
    );
  }
  await mkdir(path, { recursive: true, mode: 0o711 });
  log.info("PostgreSQL runs as another user; its data is kept where that user can reach it", {
    user: account.name,
    folder: path,
  });
  return { path, account, binaries: await reachable(binaries, account, path) };
}

/** Recorded once the data exists: an interrupted first start leaves no trace that misleads the next one. */
export async function recordLocation(folder: string, home: Home): Promise<void> {
  if (home.path !== folder) await writeFileAtomically(join(folder, LOCATION_FILE), home.path, 0o600);
}

async function reachable(binaries: Binaries, account: Account & { kind: "user" }, path: string): Promise<Binaries> {
  const copy = await copyBinaries(binaries, path);
  if (works(account, copy.postgres, ["--version"], postgresEnvironment(copy))) return copy;
  throw new PostgresError(
    `the user ${account.name} cannot run ${copy.postgres}: let that user enter the folders above it, ` +
      "run the server as another user than root, or set GRADIENT_DATABASE_URL",
  );
}

async function readLocation(folder: string): Promise<string | null> {
  try {
    return (await readFile(join(folder, LOCATION_FILE), "utf8")).trim();
  } catch (error) {
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}
