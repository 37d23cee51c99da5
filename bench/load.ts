import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { asClient, asFirstClient } from "./processes.ts";

const run = promisify(execFile);

export interface WrkOptions {
  readonly url: string;
  readonly seconds: number;
  readonly connections: number;
  /** Every answer must have it; 200 is any success. */
  readonly status: 200 | 404;
  /** A Lua file for wrk. */
  readonly script?: string;
  /** It gets its CPU before all others that share it. */
  readonly isFirst?: boolean;
}

/** Requests per second of wrk with one thread. Throws when answers were others than expected. */
export async function requestsPerSecond(options: WrkOptions): Promise<number> {
  const { url, seconds, connections, status, script } = options;
  const flags = ["-t1", `-c${connections}`, `-d${seconds}s`, ...(script ? ["-s", script] : []), url];
  const stdout = await runWrk(options, flags);
  const requests = Number(/(\d+) requests in/.exec(stdout)?.[1]);
  const refused = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0);
  if (refused !== (status === 404 ? requests : 0) || /Socket errors/.test(stdout)) {
    throw new Error(`${url} was not always answered ${status}: ${stdout}`);
  }
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
}

/**
 * Milliseconds within which 99 of 100 answers come while so many requests a second are made. Throws when answers were
 * others than expected, or when the rate was missed by a fifth.
 */
export async function answerMsAtRate(
  options: WrkOptions & { readonly rate: number; readonly scriptArguments?: readonly string[] },
): Promise<number> {
  const { url, seconds, connections, script, rate, scriptArguments = [] } = options;
  const pauseMs = Math.round((connections * 1000) / rate);
  const flags = [
    "-t1",
    `-c${connections}`,
    `-d${seconds}s`,
    "--latency",
    "-s",
    script as string,
    url,
    "--",
    `${pauseMs}`,
    ...scriptArguments,
  ];
  const stdout = await runWrk(options, flags);
  const made = Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]);
  const [, value, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  if (/Non-2xx|Socket errors/.test(stdout) || unit === undefined || Math.abs(made / rate - 1) > 0.2) {
    throw new Error(`${url} was not answered ${rate} times a second: ${stdout}`);
  }
  return Number(value) * ({ us: 0.001, ms: 1, s: 1000 }[unit] as number);
}

async function runWrk({ isFirst }: WrkOptions, flags: readonly string[]): Promise<string> {
  const command = isFirst ? await asFirstClient("wrk", flags) : asClient("wrk", flags);
  const { stdout } = await run(...command).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT" ? new Error("wrk is needed: install it") : error;
  });
  return stdout;
}

/** Bytes per second of one curl that loads the URL so many times over one connection, and writes nothing. */
export async function bytesPerSecond(url: string, { times, bytes }: { times: number; bytes: number }): Promise<number> {
  const transfers = Array.from({ length: times }, () => ["-o", "/dev/null", url]).flat();
  const [command, arguments_] = asClient("curl", ["-sSf", ...transfers]);
  const startedAt = performance.now();
  await run(command, arguments_);
  return (times * bytes * 1000) / (performance.now() - startedAt);
}
