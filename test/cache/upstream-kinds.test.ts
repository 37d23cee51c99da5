import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { createUpstreamRelay } from "#core/http/upstream-relay.ts";
import { toHex, utf8 } from "#core/lib/bytes.ts";

import { collect, streamOf } from "#core/lib/streams.ts";
import { formatHash, type Hash, sha256 } from "#core/nix/hash.ts";
import { type NarInfo, parseNarInfo } from "#core/nix/narinfo.ts";
import {
  fingerprint,
  formatPublicKey,
  generateKeyPair,
  publicKeyOf,
  type SecretKey,
  sign,
} from "#core/nix/signature.ts";
import { makeSourcePath, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { availablePathsWithUpstreams, openPath } from "#core/services/paths-availability.ts";
import { apiKeyPlace } from "#core/services/upstream-directory.ts";
import { UpstreamRelay } from "#core/services/upstream-relay.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import {
  bodyOf,
  type CacheBench,
  fileNar,
  newId,
  randomContent,
  type StoredPath,
  storeFile,
  type TestCache,
  withCacheBench,
} from "./support.ts";

const ORIGIN = "https://cache.example.org";

let bench: CacheBench;
let cache: TestCache;
let source: TestCache;
let path: StoredPath;
const open: Server[] = [];

beforeAll(async () => {
  bench = await withCacheBench();
});
afterAll(() => bench?.[Symbol.asyncDispose]());
beforeEach(async () => {
  cache = await bench.makeCache();
  source = await bench.makeCache();
  path = await storeFile(bench, "path", { content: randomContent(1_000) });
  await bench.commit([source.id], [path]);
});
afterEach(() => {
  for (const server of open.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

function setUp() {
  const upstreams = new Upstreams(bench.deps);
  const deps = { ...bench.deps, upstreams };
  const relay = createUpstreamRelay(new UpstreamRelay({ ...deps, secretKeyOf: bench.secretKeyOf }));
  const surface = bench.surface({ relay });
  const ask = async (of: TestCache, below: string, init?: RequestInit) =>
    (await surface(new Request(`${ORIGIN}/cache/${of.name}/${below}`, init))) as Response;
  return { deps, ask };
}

function narInfoName({ storePath }: { readonly storePath: StorePath }): string {
  return `${storePathHash(storePath)}.narinfo`;
}

async function status(of: TestCache, below: string): Promise<number> {
  return (await setUp().ask(of, below)).status;
}

async function restOn(upstream: TestCache, on = cache, addedBy: string | null = null): Promise<void> {
  const row = { id: newId(), cache_id: on.id, kind: 0, display_name: "Other", url: null, public_keys: [] };
  await bench.deps.db
    .insertInto("cache_upstream")
    .values({ ...row, upstream_cache_id: upstream.id, added_by: addedBy })
    .execute();
}

async function makeUser(): Promise<string> {
  const id = newId();
  const user = { id, username: `u${id}`, name: "", email: `${id}@example.org`, password_hash: null };
  await bench.deps.db.insertInto("user_account").values(user).execute();
  return id;
}

async function set(of: TestCache, change: { public?: boolean; active?: boolean }): Promise<void> {
  await bench.deps.db.updateTable("cache").set(change).where("id", "=", of.id).execute();
}

test("a cache answers for another cache of this server, and signs what it says", async () => {
  expect(await status(cache, narInfoName(path))).toBe(404);
  await restOn(source);
  const { ask } = setUp();
  const info = parseNarInfo(await (await ask(cache, narInfoName(path))).text());
  expect(info.signatures[0]?.startsWith(`${cache.publicKey.split(":")[0]}:`)).toBe(true);
  const file = await bodyOf(await ask(cache, info.url));
  expect(toHex(await sha256(file))).toBe(toHex(path.nar.fileHash.digest));
  expect(await bodyOf(await ask(source, info.url))).toEqual(file);
  expect((await ask(await bench.makeCache(), info.url)).status).toBe(404);
});

test("what the other cache rests on itself is not answered for", async () => {
  const middle = await bench.makeCache();
  await restOn(source, middle);
  await restOn(middle);
  expect([await status(middle, narInfoName(path)), await status(cache, narInfoName(path))]).toEqual([200, 404]);
});

test("a private cache is read through another one only while both sides allow for it", async () => {
  const reader = await makeUser();
  const member = { cache_id: source.id, user_id: reader, role_id: "00000000-0000-0000-0000-000000000013" };
  await bench.deps.db.insertInto("cache_member").values(member).execute();
  await restOn(source, cache, reader);
  const shows = async () => {
    const upstreams = new Upstreams(bench.deps);
    return (await upstreams.find([cache.id], [path.storePath])).found.size === 1;
  };
  expect(await shows()).toBe(true);
  await set(source, { public: false });
  // Everybody reads the one that it would be read through.
  expect(await shows()).toBe(false);
  await set(cache, { public: false });
  expect(await shows()).toBe(true);
  // A role that shows the cache and does not open its store.
  const role = { id: newId(), cache_id: source.id, name: "Onlooker", permissions: 1 };
  await bench.deps.db.insertInto("cache_role").values(role).execute();
  await bench.deps.db.updateTable("cache_member").set({ role_id: role.id }).where("user_id", "=", reader).execute();
  expect(await shows()).toBe(false);
  await bench.deps.db.deleteFrom("cache_member").where("user_id", "=", reader).execute();
  expect(await shows()).toBe(false);
  const organizationId = await bench.makeOrganization();
  const role_id = "00000000-0000-0000-0000-000000000003";
  await bench.deps.db
    .insertInto("organization_member")
    .values({ organization_id: organizationId, user_id: reader, role_id })
    .execute();
  await bench.subscribe(organizationId, source.id, 2);
  expect(await shows()).toBe(false);
  await bench.deps.db.updateTable("organization_cache").set({ mode: 1 }).where("cache_id", "=", source.id).execute();
  expect(await shows()).toBe(true);
  await bench.deps.db.updateTable("user_account").set({ active: false }).where("id", "=", reader).execute();
  expect(await shows()).toBe(false);
});

test("an inactive cache is no upstream, nor is one in write-only mode", async () => {
  await restOn(source);
  await set(source, { active: false });
  expect(await status(cache, narInfoName(path))).toBe(404);
  await set(source, { active: true });
  expect(await status(cache, narInfoName(path))).toBe(200);
  await bench.deps.db.updateTable("cache_upstream").set({ mode: 2 }).where("cache_id", "=", cache.id).execute();
  expect(await status(cache, narInfoName(path))).toBe(404);
});

test("an organization's workers get what is in the cache that their cache rests on, and build on it", async () => {
  const organizationId = await bench.makeOrganization();
  await bench.subscribe(organizationId, cache.id, 0);
  const { deps } = setUp();
  expect((await availablePathsWithUpstreams(deps, organizationId, [path.storePath])).size).toBe(0);
  await restOn(source);
  const again = setUp().deps;
  expect((await availablePathsWithUpstreams(again, organizationId, [path.storePath])).get(path.storePath)).toBe(
    cache.id,
  );
  const opened = await openPath(again, organizationId, path.storePath);
  expect(await collect(opened?.body ?? streamOf(), 10_000)).toHaveLength(path.nar.fileSize);
  const app = await storeFile(bench, "app", { references: [path.storePath] });
  const { added } = await bench.commit([cache.id], [app]);
  expect(added).toHaveLength(1);
});

interface Foreign {
  readonly url: string;
  readonly key: SecretKey;
  readonly requests: { path: string; authorization: string | undefined }[];
  readonly files: Map<string, string | Uint8Array | { redirect: string }>;
}

async function foreign(): Promise<Foreign> {
  const requests: Foreign["requests"] = [];
  const files: Foreign["files"] = new Map();
  const server = createServer((request, response) => {
    requests.push({ path: request.url ?? "", authorization: request.headers.authorization });
    const file = files.get(request.url ?? "");
    if (file === undefined) return void response.writeHead(404).end();
    if (typeof file === "object" && "redirect" in file) {
      return void response.writeHead(307, { location: file.redirect }).end();
    }
    response.end(file);
  });
  open.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { secretKey } = await generateKeyPair("foreign-1");
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, key: secretKey, requests, files };
}

/** A narinfo as a foreign cache would write it, signed. */
async function foreignNarInfo(key: SecretKey, nar: Uint8Array, narHash: Hash, url: string) {
  const storePath = await makeSourcePath("foreign", await sha256(nar), []);
  const info = { storePath, narHash, narSize: nar.length, references: [] } as unknown as NarInfo;
  const text = [
    `StorePath: ${storePath}`,
    `URL: ${url}`,
    "Compression: none",
    `NarHash: ${formatHash(narHash, "nix32")}`,
    `NarSize: ${nar.length}`,
    "References: ",
    `Sig: ${await sign(key, fingerprint(info))}`,
  ];
  return { storePath, text: `${text.join("\n")}\n` };
}

async function restOnForeign({ url, key }: Foreign, more: object = {}): Promise<string> {
  const id = newId();
  const row = { id, cache_id: cache.id, kind: 2, display_name: "Foreign", url };
  const public_keys = [formatPublicKey(publicKeyOf(key))];
  await bench.deps.db
    .insertInto("cache_upstream")
    .values({ ...row, public_keys, ...more })
    .execute();
  return id;
}

test("a cache of another Gradient is asked with its API key, which goes nowhere else", async () => {
  const [other, bucket] = [await foreign(), await foreign()];
  const nar = await fileNar(randomContent(100));
  const narHash: Hash = { algorithm: "sha256", digest: await sha256(nar) };
  const { storePath, text } = await foreignNarInfo(other.key, nar, narHash, "nar/x.nar");
  other.files.set(`/cache/main/${storePathHash(storePath)}.narinfo`, text);
  other.files.set("/cache/main/nar/x.nar", { redirect: `${bucket.url}/object` });
  bucket.files.set("/object", nar);
  const id = await restOnForeign(other, { kind: 1, remote_cache: "main" });
  const api_key = await bench.deps.secrets.seal(apiKeyPlace(id), utf8("GRADsecret"));
  await bench.deps.db.updateTable("cache_upstream").set({ api_key }).where("id", "=", id).execute();
  const { ask } = setUp();
  const info = parseNarInfo(await (await ask(cache, narInfoName({ storePath }))).text());
  expect(await bodyOf(await ask(cache, info.url))).toEqual(nar);
  const basic = `Basic ${Buffer.from("gradient:GRADsecret").toString("base64")}`;
  expect(other.requests.map(({ authorization }) => authorization)).toEqual([basic, basic]);
  expect(bucket.requests).toEqual([{ path: "/object", authorization: undefined }]);
});

test("a file that a narinfo places elsewhere is asked for without the API key", async () => {
  const [other, bucket] = [await foreign(), await foreign()];
  const nar = await fileNar(randomContent(100));
  const narHash: Hash = { algorithm: "sha256", digest: await sha256(nar) };
  const { storePath, text } = await foreignNarInfo(other.key, nar, narHash, `${bucket.url}/object`);
  other.files.set(`/cache/main/${storePathHash(storePath)}.narinfo`, text);
  bucket.files.set("/object", nar);
  const id = await restOnForeign(other, { kind: 1, remote_cache: "main" });
  const api_key = await bench.deps.secrets.seal(apiKeyPlace(id), utf8("GRADsecret"));
  await bench.deps.db.updateTable("cache_upstream").set({ api_key }).where("id", "=", id).execute();
  const { ask } = setUp();
  const info = parseNarInfo(await (await ask(cache, narInfoName({ storePath }))).text());
  expect(await bodyOf(await ask(cache, info.url))).toEqual(nar);
  expect(bucket.requests).toEqual([{ path: "/object", authorization: undefined }]);
});

test("an API key that does not open is not a reason to ask without it", async () => {
  const other = await foreign();
  await restOnForeign(other, { kind: 1, remote_cache: "main", api_key: new Uint8Array(40) });
  expect(await status(cache, narInfoName(path))).toBe(404);
  expect(other.requests).toEqual([]);
});

test("a NAR that is named by BLAKE3 is known by its SHA-256 once it was read, and only if it is that NAR", async () => {
  const other = await foreign();
  await restOnForeign(other);
  for (const right of [true, false]) {
    const nar = await fileNar(randomContent(100));
    const hash = await bench.deps.hasher.blake3();
    hash.update(right ? nar : utf8("another"));
    const narHash: Hash = { algorithm: "blake3", digest: hash.digest() };
    const { storePath, text } = await foreignNarInfo(other.key, nar, narHash, "nar/x.nar");
    other.files.set(`/${storePathHash(storePath)}.narinfo`, text);
    other.files.set("/nar/x.nar", nar);
    const { ask } = setUp();
    const answer = await ask(cache, narInfoName({ storePath }));
    expect(answer.status).toBe(right ? 200 : 404);
    if (!right) continue;
    const info = parseNarInfo(await answer.text());
    expect(toHex(info.narHash.digest)).toBe(toHex(await sha256(nar)));
    expect(info.signatures[0]?.startsWith(`${cache.publicKey.split(":")[0]}:`)).toBe(true);
    expect(await bodyOf(await ask(cache, info.url))).toEqual(nar);
  }
});

test("how upstreams answer is counted", async () => {
  const other = await foreign();
  const id = await restOnForeign(other);
  const upstreams = new Upstreams(bench.deps);
  await upstreams.find([cache.id], [path.storePath]);
  await upstreams.flushCounts();
  await upstreams.findOne(cache.id, { hash: "1".repeat(32), path: null });
  await upstreams.flushCounts();
  const rows = await bench.deps.db.selectFrom("upstream_metric").selectAll().where("upstream_id", "=", id).execute();
  const sum = (name: "requests" | "hits" | "misses" | "failures") => rows.reduce((all, row) => all + row[name], 0);
  expect([sum("requests"), sum("hits"), sum("misses"), sum("failures")]).toEqual([2, 0, 2, 0]);
});
