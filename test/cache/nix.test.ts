import { open, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { serve } from "@hono/node-server";
import { expect, test } from "vitest";
import { encodeBase32 } from "#core/nix/base32.ts";
import { nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { publish, substitute } from "./nix-closures.ts";
import { randomContent, SIGNED_IN, storeFile, withCacheBench } from "./support.ts";

const nix = nixAvailable();

type Handler = (request: Request) => Promise<Response | null>;

async function withServer(handler: Handler): Promise<AsyncDisposable & { port: number; requests: string[] }> {
  const requests: string[] = [];
  const fetch = async (request: Request): Promise<Response> => {
    const response = (await handler(request)) ?? new Response("elsewhere", { status: 404 });
    const range = request.headers.get("range");
    requests.push(
      `${request.method} ${new URL(request.url).pathname}${range ? ` ${range}` : ""} -> ${response.status}`,
    );
    return response;
  };
  const server = serve({ fetch, port: 0, hostname: "127.0.0.1" });
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as { port: number };
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      if ("closeAllConnections" in server) server.closeAllConnections();
    });
  return { port, requests, [Symbol.asyncDispose]: close };
}

test.skipIf(!nix.ok)("Nix substitutes a closure and finds every signature and every byte right", async () => {
  await using bench = await withCacheBench();
  await using daemon = await withNixDaemon();
  const cache = await bench.makeCache();
  const path = await publish(bench, daemon, cache);
  await using server = await withServer(bench.surface());

  const client = await substitute(daemon, { port: server.port, cache, path });
  expect(client.stderr).not.toContain("error");
  expect(client.code).toBe(0);
  expect((await client.verify()).code).toBe(0);
  expect(server.requests.filter((line) => line.endsWith(".narinfo -> 200"))).toHaveLength(2);
  expect(server.requests.filter((line) => line.endsWith(".nar.zst -> 200"))).toHaveLength(2);
});

test.skipIf(!nix.ok)("Nix refuses what another key has signed", async () => {
  await using bench = await withCacheBench();
  await using daemon = await withNixDaemon();
  const [cache, other] = [await bench.makeCache(), await bench.makeCache()];
  const path = await publish(bench, daemon, cache);
  await using server = await withServer(bench.surface());
  const trusting = { ...cache, publicKey: other.publicKey };
  expect((await substitute(daemon, { port: server.port, cache: trusting, path })).code).not.toBe(0);
});

test.skipIf(!nix.ok)("Nix reads a private cache with the password of its netrc file, and nothing without", async () => {
  await using bench = await withCacheBench();
  await using daemon = await withNixDaemon();
  const cache = await bench.makeCache({ public: false });
  const path = await publish(bench, daemon, cache);
  const expected = `Basic ${btoa("gradient:s3cret")}`;
  const surface = bench.surface({
    authenticate: async (request) => (request.headers.get("authorization") === expected ? SIGNED_IN : null),
    canReadCache: async () => true,
  });
  await using server = await withServer(surface);
  const netrc = join(daemon.folder, "netrc");
  await writeFile(netrc, "machine 127.0.0.1 login gradient password s3cret\n");

  const known = await substitute(daemon, { port: server.port, cache, path, options: { "netrc-file": netrc } });
  expect(known.code).toBe(0);
  expect((await known.verify()).code).toBe(0);
  server.requests.length = 0;
  const unknown = await substitute(daemon, { port: server.port, cache, path });
  expect(unknown.code).not.toBe(0);
  expect(server.requests[0]).toMatch(/^GET .*nix-cache-info -> 401$/);
  expect(server.requests.filter((line) => line.endsWith("200"))).toEqual([]);
});

test.skipIf(!nix.ok)("a changed byte never enters a store: the body is cut, then the path is gone", async () => {
  await using bench = await withCacheBench();
  await using daemon = await withNixDaemon();
  const cache = await bench.makeCache();
  const path = await publish(bench, daemon, cache, 2_000_000);
  await using server = await withServer(bench.surface());
  for (const file of await bench.objectFiles()) {
    await using handle = await open(file, "r+");
    const { size } = await handle.stat();
    if (size > 1_000_000) await handle.write(Uint8Array.of(1, 2, 3, 4), 0, 4, 1_500_000);
  }

  const client = await substitute(daemon, { port: server.port, cache, path });
  expect(client.code).not.toBe(0);
  expect((await client.verify()).code).not.toBe(0);
  expect(bench.logged).toEqual(["a stored NAR is damaged and was taken out of service"]);
  const later = await substitute(daemon, { port: server.port, cache, path });
  expect(later.code).not.toBe(0);
  expect(server.requests.at(-1)).toMatch(/narinfo -> 404$/);
});

test.skipIf(!nix.ok)("Nix resumes a download that broke off, with the rest and nothing more", async () => {
  await using bench = await withCacheBench();
  await using daemon = await withNixDaemon();
  const cache = await bench.makeCache();
  const path = await publish(bench, daemon, cache, 3_000_000);
  const surface = bench.surface();
  let cuts = 0;
  await using server = await withServer(async (request) => {
    const response = await surface(request);
    const length = Number(response?.headers.get("content-length"));
    if (!response?.body || length < 1_000_000 || cuts++ > 0) return response;
    return new Response(broken(response.body, 1_000_000), { headers: new Headers(response.headers) });
  });

  const client = await substitute(daemon, { port: server.port, cache, path });
  expect(client.code).toBe(0);
  expect((await client.verify()).code).toBe(0);
  expect(server.requests.filter((line) => / bytes=[1-9]\d+- -> 206$/.test(line))).toHaveLength(1);
});

/** The first bytes, a moment for them to be sent, and then an error. */
function broken(body: ReadableStream<Uint8Array>, bytes: number): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let sent = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { value } = await reader.read();
      if (value && sent < bytes) {
        sent += value.length;
        return controller.enqueue(value);
      }
      await reader.cancel();
      await new Promise((resolve) => setTimeout(resolve, 100));
      controller.error(new Error("broken on purpose"));
    },
  });
}

test("of a damaged body a client receives a beginning, and no other byte", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const path = await storeFile(bench, "path", { content: randomContent(2_000_000) });
  await bench.commit([cache.id], [path]);
  await using server = await withServer(bench.surface());
  const [file = ""] = await bench.objectFiles();
  const { fileSize, fileHash } = path.nar;
  await using handle = await open(file, "r+");
  await handle.write(Uint8Array.of(1, 2, 3, 4), 0, 4, fileSize - 4);
  const stored = await readFile(file, "latin1");

  const socket = connect(server.port, "127.0.0.1");
  socket.setEncoding("latin1");
  socket.write(`GET /cache/${cache.name}/nar/${encodeBase32(fileHash.digest)}.nar.zst HTTP/1.1\r\nHost: x\r\n\r\n`);
  let answer = "";
  // A cut may be a reset: what came before it counts.
  socket.on("data", (chunk: string) => {
    answer += chunk;
  });
  await new Promise<void>((resolve) => socket.once("close", () => resolve()).on("error", () => {}));
  const body = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  expect(answer).toContain("200 OK");
  expect(body.length).toBeGreaterThan(0);
  expect(body.length).toBeLessThan(fileSize);
  expect(stored.startsWith(body)).toBe(true);
});

test("a path that climbs is refused as it stands in the request line, also when the client sends it raw", async () => {
  await using bench = await withCacheBench();
  const cache = await bench.makeCache();
  const secret = await bench.makeCache({ public: false });
  await using server = await withServer(bench.surface());
  for (const path of [
    `/cache/${cache.name}/../../etc/passwd`,
    `/cache/${cache.name}/nar/../../../../../../etc/passwd`,
    `/cache/${cache.name}/nar/%2e%2e/%2e%2e/%2e%2e/etc/passwd`,
    `/cache/${cache.name}/nar/..%2f..%2f..%2fetc%2fpasswd.nar.zst`,
    `/cache/${cache.name}/nar/....//....//etc/passwd`,
    `/cache/${cache.name}/nar/\\..\\..\\etc\\passwd`,
    `//cache/${cache.name}/nix-cache-info`,
    `/cache/${cache.name}/%00.narinfo`,
  ]) {
    expect(await rawStatus(server.port, path), path).toMatch(/ 40[04] /);
  }
  // A climb that ends at a cache is that cache's own request, with its own refusal.
  expect(await rawStatus(server.port, `/cache/${cache.name}/../${secret.name}/nix-cache-info`)).toMatch(/ 40[014] /);
});

async function rawStatus(port: number, path: string): Promise<string> {
  const socket = connect(port, "127.0.0.1");
  socket.write(`GET ${path} HTTP/1.1\r\nHost: cache.example.org\r\nConnection: close\r\n\r\n`);
  return (await text(socket)).split("\r\n")[0] ?? "";
}
