import { fork } from "node:child_process";
import type { StaticServer } from "./nginx.ts";
import { pinServer } from "./processes.ts";

/** One answer of the bare server, whole in memory. */
export interface BareAnswer {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** A file is read when the server starts. */
  readonly body: string | { readonly path: string };
}

/** What Node itself can do at the most: its http module answering from a Map, in a process of its own. */
export async function startBareServer(answers: readonly BareAnswer[]): Promise<StaticServer> {
  return await startNodeServer("bare-server-process.ts", answers);
}

/** A file that the piping server sends. */
export interface PipedFile {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Absolute. */
  readonly path: string;
}

/** What Node does with a file when nothing is looked up or proven: `createReadStream(path).pipe(response)`. */
export async function startPipingServer(files: readonly PipedFile[]): Promise<StaticServer> {
  return await startNodeServer("piping-server-process.ts", files);
}

async function startNodeServer(script: string, input: unknown): Promise<StaticServer> {
  const child = fork(new URL(script, import.meta.url));
  child.send(input as object);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const port = await new Promise<number>((resolve, reject) => {
    child.once("message", (message) => resolve(message as number));
    child.once("exit", (code) => reject(new Error(`the bare server ended with ${code}`)));
  });
  await pinServer(child.pid as number);
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await ended;
    },
  };
}
