import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The machine or its network cannot give the package. */
export class AptError extends Error {}

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";
/** Two slow mirrors' worth; apt's own timeouts are shorter. */
const TOOL_MS_MAX = 5 * 60_000;

/**
 * Downloads a package of a Debian suite with all it depends on, from the mirror that this machine's apt uses, and
 * answers the archives' paths. `folder` must be absolute; apt's state is in there, so no root is needed.
 */
export function downloadPackage(name: string, suite: string, folder: string): string[] {
  const mirror = findMirror();
  const archives = join(folder, "archives");
  for (const path of [join(folder, "lists", "partial"), join(archives, "partial")]) {
    mkdirSync(path, { recursive: true });
  }
  writeFileSync(join(folder, "status"), "");
  const signedBy = existsSync(KEYRING) ? `[signed-by=${KEYRING}] ` : "";
  writeFileSync(join(folder, "sources.list"), `deb ${signedBy}${mirror} ${suite} main\n`);
  writeFileSync(join(folder, "apt.conf"), configuration(folder));

  const env = { ...process.env, APT_CONFIG: join(folder, "apt.conf"), LC_ALL: "C" };
  apt(["update"], `the package lists of Debian ${suite} cannot be fetched`, env);
  apt(["--download-only", "install", name], `${name} of Debian ${suite} cannot be fetched`, env);
  return readdirSync(archives)
    .filter((file) => file.endsWith(".deb"))
    .map((file) => join(archives, file));
}

/** Runs a program to its end and answers its standard output. Throws with what it wrote when it fails. */
export function runTool(command: string, parameters: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  const options = { encoding: "utf8", env, timeout: TOOL_MS_MAX, maxBuffer: 64 * 1024 * 1024 } as const;
  const { status, error, stdout, stderr } = spawnSync(command, parameters, options);
  if (status === 0) return stdout;
  throw new Error(`${command} ${parameters.join(" ")}: ${error?.message ?? stderr.trim()}`);
}

function apt(parameters: readonly string[], failure: string, env: NodeJS.ProcessEnv): void {
  try {
    runTool("apt-get", ["--quiet", "--yes", ...parameters], env);
  } catch (error) {
    throw new AptError(`${failure} (${(error as Error).message})`);
  }
}

/** Debian's main archive, as the machine's own sources name it: their entry for the installed release. */
function findMirror(): string {
  const release = /^VERSION_CODENAME="?(\w+)/m.exec(readIfThere("/etc/os-release"))?.[1];
  if (!existsSync("/etc/debian_version") || release === undefined) throw new AptError("this machine is not a Debian");
  let targets: string;
  try {
    const format = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)";
    targets = runTool("apt-get", ["indextargets", "--format", format]);
  } catch (error) {
    throw new AptError(`apt does not tell its sources (${(error as Error).message})`);
  }
  const wanted = `Packages main ${release} `;
  const mirror = targets.split("\n").find((line) => line.startsWith(wanted));
  if (mirror === undefined) throw new AptError(`apt's sources name no mirror of Debian ${release}`);
  return mirror.slice(wanted.length);
}

/** Of the machine's settings those that say how to reach the mirror; its hooks would act on the machine. */
function configuration(folder: string): string {
  const transport = runTool("apt-config", ["dump"])
    .split("\n")
    .filter((line) => /^Acquire::(?:https?|ftp|tor|Retries|AllowInsecure|Check-)/.test(line));
  const settings = {
    "Dir::State": folder,
    "Dir::State::status": join(folder, "status"),
    "Dir::State::lists": join(folder, "lists"),
    "Dir::Cache": folder,
    "Dir::Cache::archives": join(folder, "archives"),
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::parts": "/dev/null",
    "Dir::Etc::sourcelist": join(folder, "sources.list"),
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "APT::Install-Recommends": "false",
    // Its own user could not write below a folder that is ours alone.
    "APT::Sandbox::User": "root",
    "APT::Update::Error-Mode": "any",
    "Acquire::Languages": "none",
    // A mirror that is a snapshot keeps lists past their date; the packages are signed all the same.
    "Acquire::Check-Valid-Until": "false",
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} "${value}";`);
  return [...transport, ...lines, ""].join("\n");
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8") : "";
}
