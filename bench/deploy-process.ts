import { readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { type AgentRun, type Host, readRun } from "#test/deploy/support/host.ts";
import { nixOutput, runNix } from "#test/support/nix.ts";

const ROOT = new URL("..", import.meta.url).pathname;
/** Those that the package's wrapper gives to Node. */
const NODE_OPTIONS = ["--max-semi-space-size=1", "--max-old-space-size=256"];
/** The shell's `time` counts what the command has started too. */
const TIMED = 'TIMEFORMAT="cpu %U %S"; time "$@"';

/** The agent as its package has it. */
export interface Agent {
  /** One whole run. */
  run(host: Host): Promise<AgentRun>;
  /** One run: the processor time of all that ran, and the most memory that the agent itself had. */
  measure(host: Host): Promise<{ readonly cpuMs: number; readonly peakBytes: number }>;
}

/** Makes the file of the agent as the package does, in the folder. */
export async function packedAgent(folder: string): Promise<Agent> {
  const file = join(folder, "gradient-deploy.mjs");
  const PATH = [join(ROOT, "node_modules/.bin"), process.env.PATH].join(delimiter);
  await nixOutput(["sh", join(ROOT, "nixos/packages/bundle-agent.sh"), join(ROOT, "deploy-agent/main.ts"), file], {
    PATH,
  });
  return {
    async run(host) {
      const { code, stdout, stderr } = await runNix([process.execPath, ...NODE_OPTIONS, file, "--json"], host.env);
      return readRun(code, `${stderr}${stdout}`);
    },
    measure: (host) => measureRun(host, file),
  };
}

async function measureRun(host: Host, file: string): Promise<{ readonly cpuMs: number; readonly peakBytes: number }> {
  const peakFile = join(host.daemon.folder, "peak");
  const atExit = `import { readFileSync, writeFileSync } from "node:fs";
process.on("exit", () => writeFileSync(${JSON.stringify(peakFile)}, readFileSync("/proc/self/status")));`;
  const hook = `data:text/javascript,${encodeURIComponent(atExit)}`;
  const command = [process.execPath, ...NODE_OPTIONS, "--import", hook, file] as const;
  const { code, stderr } = await runNix(["bash", "-c", TIMED, "bash", ...command], host.env);
  const times = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(stderr);
  const peak = /^VmHWM:\s+(\d+) kB$/m.exec(await readFile(peakFile, "utf8"))?.[1];
  if (code !== 0 || !times || !peak) throw new Error(`the check ended with ${code}: ${stderr}`);
  return { cpuMs: 1_000 * (Number(times[1]) + Number(times[2])), peakBytes: 1_024 * Number(peak) };
}
