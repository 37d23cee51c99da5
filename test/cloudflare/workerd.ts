import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Readable } from "node:stream";
import { Log, LogLevel, Miniflare, type MiniflareOptions } from "miniflare";
import type { R2Bucket } from "#runtime/cloudflare/bindings.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

/** As in `wrangler.example.toml`. */
export const COMPATIBILITY_DATE = "2026-06-01";
export const COMPATIBILITY_FLAG = "nodejs_compat";

export interface Workerd extends AsyncDisposable {
  readonly origin: string;
  readonly port: number;
  readonly bucket: R2Bucket;
  /** What the Worker logged so far. */
  readonly logged: string[];
}

export interface WorkerdOptions {
  /** An ES module. */
  readonly worker: string;
  readonly bindings?: Readonly<Record<string, string>>;
  /** A connection string that the binding `DATABASE` leads to. */
  readonly hyperdrive?: string | null;
}

/** Cloudflare's runtime with its own R2 in memory and files of its own, which go with it. */
export async function withWorkerd({ worker, bindings = {}, hyperdrive = null }: WorkerdOptions): Promise<Workerd> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await withTemporaryFolder());
  const logged: string[] = [];
  const options: MiniflareOptions = {
    modules: [{ type: "ESModule", path: "index.mjs", contents: worker }],
    compatibilityDate: COMPATIBILITY_DATE,
    compatibilityFlags: [COMPATIBILITY_FLAG],
    r2Buckets: ["STORAGE"],
    bindings,
    ...(hyperdrive !== null && { hyperdrives: { DATABASE: hyperdrive } }),
    host: "127.0.0.1",
    port: 0,
    // Else it fetches what Cloudflare would tell of a request from the network.
    cf: false,
    log: new Log(LogLevel.NONE),
    handleRuntimeStdio(...streams: Readable[]) {
      for (const stream of streams) stream.on("data", (chunk: Uint8Array) => logged.push(String(chunk)));
    },
  };
  const runtime = inTemporaryFolder(folder.path, () => new Miniflare(options));
  stack.defer(() => runtime.dispose());
  const { port, origin } = await runtime.ready;
  const bucket = (await runtime.getR2Bucket("STORAGE")) as unknown as R2Bucket;
  const kept = stack.move();
  return { origin, port: Number(port), bucket, logged, [Symbol.asyncDispose]: () => kept.disposeAsync() };
}

/** It makes its folder where `TMPDIR` says, and removes it at some time after it was disposed of. */
function inTemporaryFolder<T>(path: string, make: () => T): T {
  const before = process.env.TMPDIR;
  process.env.TMPDIR = path;
  try {
    return make();
  } finally {
    if (before === undefined) delete process.env.TMPDIR;
    else process.env.TMPDIR = before;
  }
}

export interface Forward extends AsyncDisposable {
  readonly port: number;
  /** Connections that are open now. */
  readonly open: ReadonlySet<Socket>;
}

/** A port of this machine's for a Unix socket: Workers speak TCP alone. */
export async function withForward(socketPath: string): Promise<Forward> {
  const open = new Set<Socket>();
  const server = createServer((client) => {
    const target = connect(socketPath);
    open.add(client);
    client.on("close", () => open.delete(client));
    for (const end of [client, target]) {
      end.on("error", () => {});
      end.on("close", () => {
        client.destroy();
        target.destroy();
      });
    }
    client.pipe(target).pipe(client);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as AddressInfo).port,
    open,
    async [Symbol.asyncDispose]() {
      for (const client of open) client.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
