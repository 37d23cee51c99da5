import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { availableParallelism, cpus, loadavg, release, totalmem } from "node:os";
import { promisify } from "node:util";

const run = promisify(execFile);

/** What the figures depend on, as lines of a Markdown list. */
export async function describeMachine(): Promise<string[]> {
  const distribution = /^PRETTY_NAME="?(.*?)"?$/m.exec(await readFile("/etc/os-release", "utf8").catch(() => ""))?.[1];
  return [
    `- CPU: ${cpus()[0]?.model ?? "unknown"}, ${availableParallelism()} cores; memory: ${gibibytes(totalmem())} GiB`,
    `- Linux ${release()}${distribution ? ` (${distribution})` : ""}; load before the run: ${loadavg()[0]?.toFixed(1)}`,
    `- Node ${process.versions.node}; ${await version("nix")}; ${await version("nginx", "-v")}`,
    `- ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC; commit ${await commit()}`,
  ];
}

async function commit(): Promise<string> {
  const git = async (...args: string[]): Promise<string> => {
    const { stdout } = await run("git", ["-C", import.meta.dirname, ...args]);
    return stdout.trim();
  };
  try {
    const changed = await git("status", "--porcelain", "--untracked-files=no", "--", "..", ":!RESULTS.md");
    return `${await git("rev-parse", "--short=12", "HEAD")}${changed ? " and uncommitted changes" : ""}`;
  } catch {
    return "unknown";
  }
}

async function version(command: string, flag = "--version"): Promise<string> {
  try {
    const { stdout, stderr } = await run(command, [flag]);
    // nginx tells its version on standard error.
    return (stdout || stderr).trim().split("\n")[0] as string;
  } catch {
    return `no ${command}`;
  }
}

function gibibytes(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(1);
}
