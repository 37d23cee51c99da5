import { cp, mkdir, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { lastLines, runCommand } from "./commands.ts";
import type { DataFolder } from "./data-folder.ts";
import type { QuickstartOptions } from "./options.ts";
import { WILDCARD_DEFAULT } from "./options.ts";
import { QuickstartError } from "./problem.ts";

/** What is evaluated. */
export interface Source {
  /** Of the project. */
  readonly name: string;
  /** For git. */
  readonly url: string;
  readonly description: string;
  /** For a worker of these systems. */
  wildcardFor(systems: readonly string[]): string;
  /** Something that the person may not expect. */
  readonly hint: string | null;
}

interface GitOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

const FORGES: Readonly<Record<string, string>> = {
  github: "https://github.com/",
  gitlab: "https://gitlab.com/",
  sourcehut: "https://git.sr.ht/",
};
const NAME_LENGTH_MAX = 60;

/** Throws `QuickstartError` when a folder is named that is no repository, or has no commit. */
export async function findSource(
  options: QuickstartOptions,
  data: DataFolder,
  root: string,
  git: GitOptions,
): Promise<Source> {
  const { flake, wildcard } = options;
  if (flake === null) {
    const folder = await makeExampleRepository(data, root, git);
    const perSystem = (system: string) => `packages.${system}.*,checks.${system}.*`;
    return {
      name: "example",
      url: pathToFileURL(folder).href,
      description: "examples/",
      // The example is for several systems, and only this machine's have a worker.
      wildcardFor: (systems) => wildcard ?? perSystem(systems[0] as string),
      hint: null,
    };
  }
  const wildcardFor = () => wildcard ?? WILDCARD_DEFAULT;
  const forge = /^(github|gitlab|sourcehut):(~?[^/?#]+\/[^/?#]+)$/.exec(flake);
  if (forge) {
    const url = `${FORGES[forge[1] as string]}${forge[2]}`;
    return { name: projectName(url), url, description: flake, wildcardFor, hint: null };
  }
  if (/^(?:[a-z][a-z0-9+.-]*:|[^/.:@]+@[^/:]+:)/i.test(flake) && !/^(?:git\+)?file:/.test(flake)) {
    return { name: projectName(flake), url: flake, description: withoutCredentials(flake), wildcardFor, hint: null };
  }
  const path = flake.replace(/^(?:git\+)?file:\/\//, "");
  const { folder, hint } = await findLocalRepository(resolve(options.invokedFrom, path), git);
  return { name: projectName(folder), url: pathToFileURL(folder).href, description: folder, wildcardFor, hint };
}

/** A slug for the project: the repository's last name. */
export function projectName(address: string): string {
  const last = basename(
    address
      .replace(/[?#].*$/, "")
      .replace(/\/+$/, "")
      .replace(/\.git$/, ""),
  ).replace(/^.*:/, "");
  const slug = last
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .slice(0, NAME_LENGTH_MAX)
    .replace(/^-+|-+$/g, "");
  return ["", "available", "build-request", "example"].includes(slug) ? `repository${slug && `-${slug}`}` : slug;
}

async function findLocalRepository(folder: string, git: GitOptions): Promise<{ folder: string; hint: string | null }> {
  const run = (...args: string[]) => runGit(args, folder, git);
  const top = await run("rev-parse", "--show-toplevel", "--git-dir").catch(() => null);
  const bare = top ?? (await run("rev-parse", "--git-dir").catch(() => null));
  if (bare === null) {
    throw new QuickstartError(
      `${folder} is no git repository: run git init and git commit there, or give the address of one with --flake URL`,
    );
  }
  const place = top === null ? folder : (top.split("\n")[0] as string);
  if ((await run("rev-parse", "--verify", "--quiet", "HEAD").catch(() => "")) === "") {
    throw new QuickstartError(`${place} has no commit yet: what is built is a commit, so make one first`);
  }
  const changed = top === null ? "" : await run("status", "--porcelain").catch(() => "");
  return { folder: place, hint: changed ? "there are changes that are not committed; the last commit is built" : null };
}

/** A repository of its own: `examples/` lies in the middle of another one. A changed example is a new commit. */
async function makeExampleRepository(data: DataFolder, root: string, git: GitOptions): Promise<string> {
  const folder = await data.makeFolder("example");
  const run = (...args: string[]) => runGit(args, folder, git);
  await run("init", "--quiet", "--initial-branch=main");
  await rm(join(folder, ".git", "index.lock"), { force: true });
  for (const path of (await run("ls-files", "-z")).split("\0")) {
    if (path !== "") await rm(join(folder, path), { force: true });
  }
  await mkdir(folder, { recursive: true });
  await cp(join(root, "examples"), folder, { recursive: true });
  await run("add", "--all");
  if ((await run("status", "--porcelain")) !== "") await run("commit", "--quiet", "--message=The example");
  return folder;
}

/** Standard output. The user's own git settings (signing, hooks, templates) have no part in it. */
async function runGit(args: readonly string[], folder: string, { environment, signal }: GitOptions): Promise<string> {
  const settings = ["user.name=Gradient", "user.email=quickstart@localhost", "core.hooksPath=/dev/null", "gc.auto=0"];
  const { code, stdout, stderr } = await runCommand("git", [...settings.flatMap((one) => ["-c", one]), ...args], {
    environment: { ...environment, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_SYSTEM: "/dev/null", LC_ALL: "C" },
    folder,
    signal,
  });
  if (code === 0) return stdout.trim();
  throw new QuickstartError(`git ${args[0]} in ${folder} failed: ${lastLines(stderr, 3).join(" ")}`);
}

function withoutCredentials(address: string): string {
  return address.replace(/\/\/[^/@]*@/, "//");
}
