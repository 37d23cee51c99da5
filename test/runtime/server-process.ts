import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";

const MAIN = join(import.meta.dirname, "../../runtime/node/main.ts");

export interface ServerProcess extends AsyncDisposable {
  readonly url: string;
  readonly process: ChildProcess;
  /** Everything it wrote to stdout so far, one line each. */
  readonly lines: readonly string[];
  /** Resolves when it has ended, with its exit code and what it wrote to stderr. */
  readonly ended: Promise<{ readonly code: number | null; readonly words: string }>;
}

/** `gradient-server` as a process of its own, on a free port. Throws what it said when it does not get ready. */
export async function withServerProcess(basePath: string, env: NodeJS.ProcessEnv = {}): Promise<ServerProcess> {
  const child = spawn(process.execPath, [MAIN], {
    env: { ...process.env, GRADIENT_BASE_PATH: basePath, GRADIENT_PORT: "0", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const words = text(child.stderr);
  const ended = once(child, "close").then(async ([code]) => ({ code: code as number | null, words: await words }));
  const lines: string[] = [];
  const ready = Promise.withResolvers<string>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    const { message, url } = JSON.parse(line) as { message: string; url?: string };
    if (message === "the server is ready" && url) ready.resolve(url);
  });
  const url = await Promise.race([ready.promise, ended.then(({ words }) => Promise.reject(new Error(words)))]);
  const dispose = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  return { url, process: child, lines, ended, [Symbol.asyncDispose]: dispose };
}
