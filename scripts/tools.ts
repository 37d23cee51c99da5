import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

/** A program that some tests need and npm does not bring. */
export interface Tool {
  readonly name: string;
  /** The program whose presence counts. */
  readonly command: string;
  readonly versionArguments: readonly string[];
  /** The Debian package that brings it, or several, separated by spaces. */
  readonly aptPackage: string;
  /** The tests that are skipped without it. */
  readonly neededBy: string;
  /** Units of the package that would take calls from the network; installing it here starts none of them. */
  readonly units?: readonly string[];
}

export interface FoundTool extends Tool {
  /** Null when the program is not on this machine. */
  readonly path: string | null;
  readonly version: string;
}

/** The oldest PostgreSQL that we support: Debian 12's. */
export const OLDEST_POSTGRES = "/usr/lib/postgresql/15/bin/postgres";

export const TOOLS: readonly Tool[] = [
  {
    name: "nix",
    command: "nix",
    versionArguments: ["--version"],
    aptPackage: "nix-bin",
    neededBy: "the tests that compare with Nix and the end-to-end tests",
  },
  {
    name: "git",
    command: "git",
    versionArguments: ["--version"],
    aptPackage: "git",
    neededBy: "the tests of repositories and the end-to-end tests",
  },
  {
    name: "nginx",
    command: "nginx",
    versionArguments: ["-v"],
    aptPackage: "nginx-light",
    units: ["nginx.service"],
    neededBy: "the tests of the cache behind a proxy",
  },
  {
    name: "caddy",
    command: "caddy",
    versionArguments: ["version"],
    aptPackage: "caddy",
    units: ["caddy.service"],
    neededBy: "the tests of the modules' configuration of Caddy",
  },
  {
    name: "sshd",
    command: "sshd",
    versionArguments: ["-V"],
    aptPackage: "openssh-server",
    units: ["ssh.service", "ssh.socket"],
    neededBy: "the tests of repositories over ssh",
  },
  {
    name: "postgres",
    command: "postgres",
    versionArguments: ["--version"],
    aptPackage: "postgresql",
    neededBy: "the database tests on the distribution's PostgreSQL",
  },
  {
    name: "radosgw",
    command: "radosgw",
    versionArguments: ["--version"],
    aptPackage: "radosgw ceph-mon ceph-osd",
    neededBy: "the tests of storage in S3",
  },
];

/** PATH, followed by the folders that an ordinary user's PATH leaves out and PostgreSQL's own. */
export function toolPath(path: string = process.env.PATH ?? ""): string {
  const postgres = "/usr/lib/postgresql";
  const versions = existsSync(postgres) ? readdirSync(postgres).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = ["/usr/sbin", "/sbin", ...versions.map((version) => join(postgres, version, "bin"))];
  return [...path.split(delimiter), ...folders].join(delimiter);
}

export function findTools(): FoundTool[] {
  return TOOLS.map((tool) => {
    const path = findCommand(tool.command);
    return { ...tool, path, version: path === null ? "" : readVersion(path, tool.versionArguments) };
  });
}

function findCommand(command: string): string | null {
  for (const folder of toolPath().split(delimiter)) {
    const path = join(folder, command);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not here: the next folder may have it.
    }
  }
  return null;
}

/** Some programs print their version to stderr. */
function readVersion(path: string, versionArguments: readonly string[]): string {
  const { stdout, stderr } = spawnSync(path, versionArguments, { encoding: "utf8", timeout: 10_000 });
  return /\d+(?:\.\d+)+/.exec(`${stdout}${stderr}`)?.[0] ?? "of an unknown version";
}
