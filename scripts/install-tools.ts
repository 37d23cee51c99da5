import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { type FoundTool, findTools } from "./tools.ts";

export interface ToolState {
  readonly tools: readonly FoundTool[];
  /** Why tests may be skipped on this machine, one sentence each. Empty: nothing may be skipped. */
  readonly excuses: readonly string[];
}

/** Finds what the tests need; on Debian, as root, installs what is missing. Says what it does through `say`. */
export function ensureTools(say: (line: string) => void): ToolState {
  let tools = findTools();
  const missing = tools.filter((tool) => tool.path === null);
  let reason = "";
  if (missing.length > 0) {
    reason = whyNotInstallable() ?? install(missing, say) ?? "";
    tools = findTools();
  }

  say(`node ${process.versions.node} (${process.execPath})`);
  for (const { name, path, version } of tools)
    say(path === null ? `${name} is missing` : `${name} ${version} (${path})`);
  const root = process.getuid?.() === 0;
  say(root ? "running as root" : "running as an ordinary user");

  const excuses = tools
    .filter((tool) => tool.path === null)
    .map(({ name, aptPackage, neededBy }) => {
      const how = reason === "" ? "" : ` (${reason})`;
      return `${name} is missing${how}: ${neededBy} are skipped; install the package ${aptPackage} to run them`;
    });
  if (!root) excuses.push("not running as root: tests that give files or processes to another user are skipped");
  return { tools, excuses };
}

function whyNotInstallable(): string | null {
  if (!existsSync("/etc/debian_version")) return "only installed by itself on Debian";
  if (process.getuid?.() !== 0) return "apt-get needs root";
  return null;
}

/** A login for the network must not come of running tests. Null when all went well, as for `install`. */
function maskUnits(units: readonly string[], say: (line: string) => void): string | null {
  if (units.length === 0 || !existsSync("/run/systemd/system")) return null;
  const { status, error, stderr } = spawnSync("systemctl", ["mask", ...units], { encoding: "utf8" });
  if (status !== 0) {
    say(`systemctl mask failed, and nothing is installed:\n${(error?.message ?? stderr).trim()}`);
    return "their services could not be kept from starting";
  }
  say(`masked, so that what is installed starts no service: systemctl unmask ${units.join(" ")}`);
  return null;
}

/** Null when all went well, otherwise the reason in a few words. Services that come with a package are not used. */
function install(missing: readonly FoundTool[], say: (line: string) => void): string | null {
  const packages = missing.flatMap((tool) => tool.aptPackage.split(" "));
  const trouble = maskUnits(
    missing.flatMap(({ units = [] }) => units),
    say,
  );
  if (trouble !== null) return trouble;
  say(`installing by apt-get: ${packages.join(" ")}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  for (const parameters of [["update"], ["install", "--yes", "--no-install-recommends", ...packages]]) {
    const { status, error, stderr } = spawnSync("apt-get", ["--quiet", ...parameters], {
      encoding: "utf8",
      env,
      maxBuffer: 64 * 1024 * 1024,
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (status !== 0) {
      say(`apt-get ${parameters[0]} failed:\n${(error?.message ?? stderr).trim()}`);
      return `apt-get ${parameters[0]} failed`;
    }
  }
  return null;
}
