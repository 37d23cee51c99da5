import { type ChildProcess, spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { SERVICE_OPTIONS } from "#scripts/node-options.ts";
import { pathWithNix } from "../support/nix-path.ts";

export interface Service extends AsyncDisposable {
  readonly pid: number;
  /** Everything it wrote to standard output and error. */
  readonly output: () => string;
  /** Resolves when the text was written; throws when the process ends before, or after `timeoutMs`. */
  readonly waitFor: (text: string, timeoutMs?: number) => Promise<void>;
  /** Resolves when it has ended, with the exit code. */
  readonly ended: Promise<number | null>;
  /** SIGKILL, and waits for its end. */
  readonly kill: () => Promise<void>;
  /** SIGTERM, and waits for its end; SIGKILL after `STOP_MS_MAX`. Resolves with the exit code. */
  readonly stop: () => Promise<number | null>;
}

const STOP_MS_MAX = 30_000;
/** A worker that is asked to stop waits for its builds: after a test that failed, for what nobody wants any more. */
const DISPOSE_MS_MAX = 5_000;

/** Starts one of our programs as a process of its own, as an init system would. Ended with the test. */
export function startService(
  script: string,
  env: Readonly<Record<string, string>>,
  parameters: readonly string[] = [],
): Service {
  const root = new URL("../..", import.meta.url).pathname;
  const child = spawn(process.execPath, [...SERVICE_OPTIONS, `${root}${script}`, ...parameters], {
    // As `npm start` does it.
    env: { PATH: pathWithNix(), NODE_COMPILE_CACHE: `${root}/node_modules/.cache/compiled`, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
  }
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const stop = async (graceMs: number) => {
    child.kill("SIGTERM");
    const hard = setTimeout(() => child.kill("SIGKILL"), graceMs);
    const code = await ended;
    clearTimeout(hard);
    return code;
  };
  return {
    pid: child.pid as number,
    output: () => output,
    ended,
    waitFor: (text, timeoutMs = 30_000) => waitForText(child, () => output, text, timeoutMs),
    kill: async () => {
      child.kill("SIGKILL");
      await ended;
    },
    stop: () => stop(STOP_MS_MAX),
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode === null && child.signalCode === null) await stop(DISPOSE_MS_MAX);
    },
  };
}

async function waitForText(child: ChildProcess, output: () => string, text: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!output().includes(text)) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`it ended before «${text}»: ${output()}`);
    if (performance.now() > deadline) throw new Error(`no «${text}» within ${timeoutMs} ms: ${output()}`);
    await sleep(20);
  }
}
