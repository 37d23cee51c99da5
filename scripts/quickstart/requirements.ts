import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { findCommand, lastLines, runCommand } from "./commands.ts";
import type { Output } from "./output.ts";
import { QuickstartError } from "./problem.ts";

export interface Tools {
  readonly nix: string;
  readonly nixDaemon: string;
  readonly nixVersion: string;
  readonly gitVersion: string;
}

export interface RequirementOptions {
  readonly environment: Readonly<Record<string, string>>;
  readonly yes: boolean;
  readonly signal: AbortSignal;
}

const NIX_MIN = [2, 8] as const;
const INSTALL_TIMEOUT_MS = 15 * 60_000;
/** Of the programs, the Debian packages that bring them. */
const PACKAGES: Readonly<Record<string, string>> = { nix: "nix-bin", "nix-daemon": "nix-bin", git: "git" };

/** Makes sure that Nix and git are there; root on Debian gets them installed. Throws `QuickstartError`. */
export async function findTools(output: Output, options: RequirementOptions): Promise<Tools> {
  const missing = missingTools(options);
  if (missing.length > 0) await install(missing, output, options);
  const { environment, signal } = options;
  const path = environment.PATH ?? "";
  const nix = findCommand("nix", path);
  const nixDaemon = findCommand("nix-daemon", nix ? `${dirname(nix)}:${path}` : path);
  if (!nix || !nixDaemon) throw new QuickstartError(`nix is still not there. ${advice(missing)}`);
  const versionOf = async (command: string) =>
    (await runCommand(command, ["--version"], { environment, signal })).stdout;
  const nixVersion = /(\d+\.\d+\S*)/.exec(await versionOf(nix))?.[1] ?? "";
  requireVersion(nix, nixVersion);
  const gitVersion = /(\d+\.\d+\S*)/.exec(await versionOf("git"))?.[1] ?? "";
  return { nix, nixDaemon, nixVersion, gitVersion };
}

function missingTools({ environment }: RequirementOptions): string[] {
  return Object.keys(PACKAGES).filter((name) => findCommand(name, environment.PATH ?? "") === null);
}

async function install(missing: readonly string[], output: Output, options: RequirementOptions): Promise<void> {
  const { environment, signal, yes } = options;
  const isDebian = existsSync("/etc/debian_version") && findCommand("apt-get", environment.PATH ?? "") !== null;
  if (!isDebian || process.getuid?.() !== 0) {
    throw new QuickstartError(`${missing.join(" and ")} is not on this machine. ${advice(missing)}`);
  }
  const packages = [...new Set(missing.map((name) => PACKAGES[name] as string))];
  output.line("install", `apt-get install ${packages.join(" ")}`);
  if (!yes && !(await output.confirm(`${missing.join(" and ")} is missing: install it now?`))) {
    throw new QuickstartError(`nothing was installed. ${advice(missing)}`);
  }
  const run = (args: readonly string[]) =>
    runCommand("apt-get", args, {
      environment: { ...environment, DEBIAN_FRONTEND: "noninteractive" },
      timeoutMs: INSTALL_TIMEOUT_MS,
      signal,
    });
  // The lists of a fresh machine may be empty or old; a mirror that fails now may still have served them before.
  await run(["update", "-q"]);
  const { code, stdout, stderr } = await run(["install", "-q", "-y", ...packages]);
  if (code === 0) return;
  const words = lastLines(stderr || stdout, 5).join("\n  ");
  throw new QuickstartError(`apt-get install ${packages.join(" ")} failed:\n  ${words}`);
}

function advice(missing: readonly string[]): string {
  const git = missing.includes("git") ? " Install git with your system's packages." : "";
  const nix = missing.some((name) => name.startsWith("nix"));
  const debian = existsSync("/etc/debian_version") ? " (on Debian as root: apt-get install nix-bin)" : "";
  const install = nix ? `Install Nix ${NIX_MIN.join(".")} or later from https://nixos.org/download${debian}.` : "";
  return `${install}${git} Then start again.`;
}

function requireVersion(nix: string, version: string): void {
  const [major = 0, minor = 0] = version.split(".").map((part) => Number.parseInt(part, 10));
  if (major > NIX_MIN[0] || (major === NIX_MIN[0] && minor >= NIX_MIN[1])) return;
  throw new QuickstartError(`${nix} is version ${version || "unknown"}: Nix ${NIX_MIN.join(".")} or later is needed`);
}
