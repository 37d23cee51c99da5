import { mkdir, readdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "#runtime/node/config.ts";
import { openStorage } from "#runtime/node/storage.ts";
import { localPath, narInfoText, narName } from "#test/cache/push-support.ts";
import { randomContent } from "#test/cache/support.ts";
import type { Api } from "#test/e2e/api.ts";
import { freePort } from "#test/e2e/gradient.ts";
import { addOrganization, type Options, type Place, type StartedServer, withPlace } from "./support.ts";

const PUBLIC_KEY = "upstream-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

let place: Place;
let token: string;
beforeAll(async () => {
  place = await withPlace();
  await using server = await place.start();
  const api = server.api();
  await api.signUp("ada");
  await addOrganization(api, "acme");
  token = api.token;
});
afterAll(() => place[Symbol.asyncDispose]());

function apiOf(server: StartedServer): Api {
  return Object.assign(server.api(), { token });
}

test("GRADIENT_NGINX_STORAGE_LOCATION, GRADIENT_NGINX_LOG_PATH: nginx sends files, and writes it down", async () => {
  const log = join(place.folder, "sent");
  await mkdir(log);
  const located = { GRADIENT_NGINX_STORAGE_LOCATION: "/internal-storage/", GRADIENT_NGINX_LOG_PATH: log };
  await using server = await place.start(located);
  // Smaller ones are sent out of memory.
  const path = await localPath("large", { content: randomContent(600_000) });
  const headers = { authorization: `Bearer ${token}` };
  const url = `${server.url}/cache/acme`;
  const put = async (name: string, body: string | Uint8Array<ArrayBuffer>) =>
    await fetch(`${url}/${name}`, { method: "PUT", headers, body });
  expect((await put(await narName(path.nar, ".nar"), path.nar)).status).toBe(200);
  const narInfo = (await narInfoText(path)).replace("Compression: xz", "Compression: none").replace(".nar.xz", ".nar");
  expect((await put(`${path.hash}.narinfo`, narInfo)).status).toBe(200);
  const told = await (await fetch(`${url}/${path.hash}.narinfo`, { headers })).text();

  const nar = `${url}/${/^URL: (.*)$/m.exec(told)?.[1]}`;
  const answer = await fetch(nar, { headers: { ...headers, "x-sendfile-type": "X-Accel-Redirect" } });
  expect(answer.headers.get("x-accel-redirect")).toMatch(/^\/internal-storage\/nar\//);

  const only = { ...headers, "x-sendfile-type": "X-Accel-Redirect-Only" };
  const sent = (await fetch(nar, { headers: only })).headers.get("x-gradient-nar-log");
  await server[Symbol.asyncDispose]();
  // What nginx writes while no server runs is the next one's.
  await writeFile(join(log, "sent-1"), `${sent}\n${sent}\n`);
  await using counting = await place.start(located);
  await expect.poll(() => readdir(log)).toEqual([]);
  // Sums are written from time to time, and at the end.
  await counting[Symbol.asyncDispose]();
  await using again = await place.start();
  const stats = await fetch(`${again.url}/api/v1/caches/acme/stats`, { headers });
  const { message } = (await stats.json()) as { message: { weeks: { requests: number; bytes: number }[] } };
  const { size } = told.match(/^FileSize: (?<size>.*)$/m)?.groups ?? {};
  // The first time it was told of the file itself, and the server counted.
  expect(message.weeks.at(-1)).toMatchObject({ requests: 3, bytes: 3 * Number(size) });
});

test("GRADIENT_SHARED_STORAGE_PATH, GRADIENT_REUSE_PORT: two servers share a storage and a port", async () => {
  const port = String(await freePort());
  const shared = { GRADIENT_SHARED_STORAGE_PATH: join(place.folder, "shared"), GRADIENT_REUSE_PORT: "true" };
  const options = { ...shared, GRADIENT_PORT: port };
  await using _one = await place.start(options);

  await using two = await place.start({ ...options, GRADIENT_BASE_PATH: join(place.folder, "second") });
  expect((await fetch(`${two.url}/api/v1/health`)).status).toBe(200);

  const without = { ...options, GRADIENT_REUSE_PORT: "false", GRADIENT_BASE_PATH: join(place.folder, "third") };
  await expect(place.start(without)).rejects.toThrow(`127.0.0.1:${port} is in use`);
});

/** How many narinfos of how many together an upstream on this machine is asked for, where eight are wanted at once. */
async function askedUpstream(name: string, options: Options): Promise<{ asked: number; together: number }> {
  let [asked, now, together] = [0, 0, 0];
  const upstream = createServer(async (request, response) => {
    if (request.url?.endsWith(".narinfo")) asked++;
    together = Math.max(together, ++now);
    await sleep(50);
    now--;
    response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`;
  try {
    await using server = await place.start(options);
    const api = apiOf(server);
    await addOrganization(api, name);
    await api.request("PUT", `/caches/${name}/upstreams`, {
      type: "http",
      display_name: "Upstream",
      url,
      public_key: PUBLIC_KEY,
    });
    const headers = { authorization: `Bearer ${token}` };
    const hashes = Array.from({ length: 8 }, (_, index) => String(index).repeat(32));
    await Promise.all(hashes.map((hash) => fetch(`${server.url}/cache/${name}/${hash}.narinfo`, { headers })));
    return { asked, together };
  } finally {
    upstream.closeAllConnections();
    upstream.close();
  }
}

test("GRADIENT_UPSTREAM_QUERY_CONCURRENCY: no more questions to upstreams are under way", async () => {
  const seen = await askedUpstream("few", {
    GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32",
    GRADIENT_UPSTREAM_QUERY_CONCURRENCY: "2",
  });

  expect(seen.asked).toBe(8);
  expect(seen.together).toBeLessThanOrEqual(2);
});

test("outboundAllow (GRADIENT_OUTBOUND_ALLOW): the server reaches its own machine where it is listed", async () => {
  expect((await askedUpstream("listed", { GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32" })).asked).toBe(8);
  expect((await askedUpstream("unlisted", {})).asked).toBe(0);
});

test("outboundPrivate (GRADIENT_OUTBOUND_PRIVATE=false): the server reaches no private networks", async () => {
  await using server = await place.start({ GRADIENT_OUTBOUND_PRIVATE: "false", GRADIENT_CACHE_LOG_LEVEL: "debug" });
  const api = apiOf(server);
  await addOrganization(api, "private");
  const upstream = { type: "http", display_name: "Inside", url: "http://10.254.1.1", public_key: PUBLIC_KEY };
  await api.request("PUT", "/caches/private/upstreams", upstream);

  const headers = { authorization: `Bearer ${token}` };
  await fetch(`${server.url}/cache/private/${"0".repeat(32)}.narinfo`, { headers });

  expect(JSON.stringify(server.logged)).toContain("10.254.1.1 is the local or reserved address");
});

test("s3.region, s3.virtualHostedStyle: where clients are sent, and for which region it is signed", async () => {
  const address = async (options: Options) => {
    const { config } = readConfig({
      GRADIENT_S3_BUCKET: "nars",
      GRADIENT_S3_ENDPOINT: "https://s3.example.com",
      GRADIENT_S3_PREFIX: "ci",
      GRADIENT_S3_ACCESS_KEY_ID: "key",
      GRADIENT_S3_SECRET_ACCESS_KEY_FILE: place.required.GRADIENT_JWT_SECRET_FILE,
      ...options,
    });
    const storage = await openStorage(config);
    const url = new URL((await storage.blobs.presigned?.readUrl("nar/abc/1", 60_000)) ?? "");
    storage.close();
    return [url.origin + url.pathname, url.searchParams.get("X-Amz-Credential")?.split("/").at(2)];
  };

  expect(await address({})).toEqual(["https://s3.example.com/nars/ci/nar/abc/1", "us-east-1"]);
  expect(await address({ GRADIENT_S3_REGION: "eu-central-1", GRADIENT_S3_VIRTUAL_HOSTED_STYLE: "true" })).toEqual([
    "https://nars.s3.example.com/ci/nar/abc/1",
    "eu-central-1",
  ]);
});
