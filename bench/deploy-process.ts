import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { SERVICE_OPTIONS } from "#scripts/node-options.ts";
import type { Host } from "#test/deploy/support/host.ts";
import { runNix } from "#test/support/nix.ts";

const AGENT = new URL("../deploy-agent/main.ts", import.meta.url).pathname;
/** The shell's `time` counts what the command has started too. */
const TIMED = 'TIMEFORMAT="cpu %U %S"; time "$@"';

/** One run of the agent: the processor time of all that ran, and the most memory that the agent itself had. */
export async function measureAgent(host: Host): Promise<{ readonly cpuMs: number; readonly peakBytes: number }> {
  const peakFile = join(host.daemon.folder, "peak");
  const atExit = `import { readFileSync, writeFileSync } from "node:fs";
process.on("exit", () => writeFileSync(${JSON.stringify(peakFile)}, readFileSync("/proc/self/status")));`;
  const hook = `data:text/javascript,${encodeURIComponent(atExit)}`;
  const command = [process.execPath, ...SERVICE_OPTIONS, "--import", hook, AGENT] as const;
  const { code, stderr } = await runNix(["bash", "-c", TIMED, "bash", ...command], host.env);
  const times = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(stderr);
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(peakFile, "utf8"))?.[1];
  if (code !== 0 || !times || !peak) throw new Error(`the check ended with ${code}: ${stderr}`);
  return { cpuMs: 1_000 * (Number(times[1]) + Number(times[2])), peakBytes: 1_024 * Number(peak) };
}
