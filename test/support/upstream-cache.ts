import { readFile } from "node:fs/promises";
import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join, normalize } from "node:path";
import { type NixDaemon, nixOutput } from "./nix.ts";

/**
 * What goes wrong with an answer. `slow`: it never comes. `cut`: half of the body. `stall`: half of it, then nothing.
 * `flip`: one byte in its middle. `short` and `long`: it says so of its length.
 */
export type Fault =
  | { readonly status: number }
  | { readonly redirect: string }
  | "slow"
  | "cut"
  | "stall"
  | "flip"
  | "short"
  | "long"
  | { readonly replace: readonly [pattern: RegExp, text: string] };

/** A binary cache that Nix itself wrote, served on loopback, with faults at wish. */
export interface UpstreamCache extends AsyncDisposable {
  readonly url: string;
  readonly publicKey: string;
  /** Paths that were asked for, in order. */
  readonly requests: string[];
  /** What came with each. */
  readonly headers: IncomingHttpHeaders[];
  /** Decides for each path of a request, such as `/nar/x.nar.xz`. */
  fault: (path: string) => Fault | null;
  /** Copies paths of a daemon's store with their closures, signed. */
  copy(daemon: NixDaemon, paths: readonly string[], compression: string): Promise<void>;
  narInfo(storePath: string): Promise<string>;
}

export async function withUpstreamCache(folder: string): Promise<UpstreamCache> {
  const files = join(folder, "upstream");
  const [secretFile, publicFile] = [join(folder, "upstream-secret"), join(folder, "upstream-public")];
  await nixOutput(["nix-store", "--generate-binary-cache-key", "upstream-1", secretFile, publicFile], {});
  const requests: string[] = [];
  const headers: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://upstream").pathname);
    requests.push(path);
    headers.push(request.headers);
    void answer(files, path, cache.fault(path), response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cache: UpstreamCache = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    publicKey: (await readFile(publicFile, "utf8")).trim(),
    requests,
    headers,
    fault: () => null,
    async copy(daemon, paths, compression) {
      const target = `file://${files}?compression=${compression}&secret-key=${secretFile}`;
      await nixOutput(["nix", "copy", "--to", target, ...paths], { ...daemon.env, NIX_REMOTE: daemon.storeUrl });
    },
    narInfo: (storePath) => readFile(join(files, `${storePath.slice(11, 43)}.narinfo`), "utf8"),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return cache;
}

async function answer(files: string, path: string, fault: Fault | null, response: ServerResponse): Promise<void> {
  if (fault === "slow") return;
  const body = await readFile(join(files, path)).catch(() => null);
  if (fault !== null && typeof fault === "object" && "status" in fault) {
    return void response.writeHead(fault.status).end();
  }
  if (fault !== null && typeof fault === "object" && "redirect" in fault) {
    return void response.writeHead(302, { location: fault.redirect }).end();
  }
  if (!body) return void response.writeHead(404).end();
  if (fault === "cut") {
    response.writeHead(200, { "content-length": body.length }).write(body.subarray(0, body.length / 2));
    return void setTimeout(() => response.destroy(), 20);
  }
  if (fault === "stall") {
    return void response.writeHead(200, { "content-length": body.length }).write(body.subarray(0, body.length / 2));
  }
  if (fault === "short" || fault === "long") {
    response.writeHead(200, { "content-length": body.length + (fault === "long" ? 100 : -100) }).write(body);
    return void setTimeout(() => response.destroy(), 20);
  }
  if (fault === "flip") {
    const middle = Math.floor(body.length / 2);
    body[middle] = (body[middle] as number) ^ 0xff;
  }
  const sent =
    typeof fault === "object" && fault && "replace" in fault ? body.toString("latin1").replace(...fault.replace) : body;
  response.writeHead(200, { "content-length": Buffer.byteLength(sent, "latin1") }).end(sent, "latin1");
}

/** Builds an expression in the daemon's store and answers its output path. */
export async function buildIn(daemon: NixDaemon, expression: string): Promise<string> {
  return await nixOutput(["nix-build", "--no-out-link", "-E", expression], {
    ...daemon.env,
    NIX_REMOTE: daemon.storeUrl,
  });
}
