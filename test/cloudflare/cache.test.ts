import { afterAll, beforeAll, expect, test } from "vitest";
import { insertRealisations } from "#core/db/realisations.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { storePathBaseName, storePathHash } from "#core/nix/store-path.ts";
import { startNotifier } from "#runtime/node/notifier.ts";
import { makePerson } from "#test/cache/actors.ts";
import { randomContent, type StoredPath, storeFile, type TestCache } from "#test/cache/support.ts";
import { offerTree } from "#test/cache/trees.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { type EdgeBench, withEdge } from "./support.ts";

const ABSENT = "0".repeat(32);

let edge: EdgeBench;
let cache: TestCache;

beforeAll(async () => {
  edge = await withEdge();
  cache = await edge.bench.makeCache();
});
afterAll(() => edge?.[Symbol.asyncDispose]());

async function offer(name: string, bytes = 100, where = cache): Promise<StoredPath> {
  const path = await storeFile(edge.bench, name, { content: randomContent(bytes) });
  await edge.bench.commit([where.id], [path]);
  return path;
}

const narInfoOf = ({ storePath }: StoredPath): string => `${storePathHash(storePath)}.narinfo`;

async function narUrl(path: StoredPath, where = cache): Promise<string> {
  const response = await edge.askCache(where, narInfoOf(path));
  expect(response.status).toBe(200);
  return /^URL: (.*)$/m.exec(await response.text())?.[1] ?? "";
}

async function fileBytes({ nar }: StoredPath): Promise<Uint8Array> {
  const object = await edge.workerd.bucket.get(`gradient/nars/${nar.objectKey}`);
  if (!object || !("body" in object)) throw new Error("there is no such object");
  return new Uint8Array(await new Response(object.body).arrayBuffer());
}

test("a narinfo and its NAR come from PostgreSQL and R2, signed, with their lengths and tags", async () => {
  const path = await offer("hello", 600_000);
  const narInfo = await edge.askCache(cache, narInfoOf(path));
  const text = await narInfo.text();

  expect(narInfo.headers.get("content-type")).toBe("text/x-nix-narinfo");
  expect(narInfo.headers.get("content-length")).toBe(String(text.length));
  expect(text).toContain(`StorePath: ${path.storePath}`);
  expect(text).toMatch(new RegExp(`^Sig: ${cache.publicKey.split(":")[0]}:`, "m"));

  const nar = await edge.askCache(cache, await narUrl(path));
  const bytes = new Uint8Array(await nar.arrayBuffer());
  expect(nar.headers.get("content-length")).toBe(String(path.nar.fileSize));
  expect(nar.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
  expect(bytes).toEqual(await fileBytes(path));
});

test("HEAD says the same without the body, a range is a part of it, and what is known is not sent again", async () => {
  const path = await offer("parts", 500_000);
  const url = await narUrl(path);
  const whole = await fileBytes(path);

  const head = await edge.askCache(cache, url, { method: "HEAD" });
  expect(head.status).toBe(200);
  expect(head.headers.get("content-length")).toBe(String(whole.length));
  const part = await edge.askCache(cache, url, { headers: { range: "bytes=400000-400009" } });
  expect(part.status).toBe(206);
  expect(part.headers.get("content-range")).toBe(`bytes 400000-400009/${whole.length}`);
  expect(part.headers.get("content-length")).toBe("10");
  expect(new Uint8Array(await part.arrayBuffer())).toEqual(whole.slice(400_000, 400_010));
  const beyond = await edge.askCache(cache, url, { headers: { range: "bytes=900000-" } });
  expect(beyond.status).toBe(416);
  const known = { "if-none-match": head.headers.get("etag") ?? "" };
  expect((await edge.askCache(cache, url, { headers: known })).status).toBe(304);
});

test.each([
  ["a path that is not there", `${ABSENT}.narinfo`],
  ["a file that is not there", `nar/${"0".repeat(52)}.nar.zst`],
  ["what is no address of a cache", "../../etc/passwd"],
  ["a log that is not there", `log/${ABSENT}-x.drv`],
])("%s is a 404 that nobody keeps", async (_, path) => {
  const response = await edge.askCache(cache, path);
  expect(response.status).toBe(404);
  expect(response.headers.get("cache-control")).toBe("no-store");
  expect(await response.json()).toMatchObject({ error: true, code: "not_found" });
});

test("a NAR whose object is gone is a 404, is out of service, and the servers are told", async () => {
  await using servers = await startServersEar();
  const path = await offer("gone");
  const url = await narUrl(path);
  await edge.bench.deps.blobs.delete(path.nar.objectKey);

  expect((await edge.askCache(cache, url)).status).toBe(404);

  expect((await edge.askCache(cache, narInfoOf(path))).status).toBe(404);
  await expect.poll(() => servers.heard).toContain(`path ${cache.id}/${storePathHash(path.storePath)}`);
});

test("a NAR with a changed byte is cut before its end, and gone afterwards", async () => {
  const path = await offer("changed", 800_000);
  const url = await narUrl(path);
  const bytes = await fileBytes(path);
  bytes[500_000] = (bytes[500_000] as number) ^ 1;
  await edge.workerd.bucket.put(`gradient/nars/${path.nar.objectKey}`, bytes);

  const response = await edge.askCache(cache, url);
  await expect(response.arrayBuffer()).rejects.toThrow();

  await expect.poll(async () => (await edge.askCache(cache, narInfoOf(path))).status).toBe(404);
});

test("what is in a path is listed, and served by file", async () => {
  const site = await offerTree(edge.bench, cache, "site", { "index.html": "<h1>", docs: { "a.txt": "text" } });
  const hash = storePathHash(site.storePath);
  // Cloudflare packs texts itself for who takes that.
  const plain = { headers: { "accept-encoding": "identity" } };

  const listing = await edge.askCache(cache, `${hash}.ls`, plain);
  expect(JSON.parse(await listing.text()).root.entries.docs.entries["a.txt"]).toMatchObject({ size: 4 });
  const packed = await edge.askCache(cache, `${hash}.ls`, { headers: { "accept-encoding": "gzip" } });
  // Node's client has unpacked it: packed twice it would be no JSON.
  expect(packed.headers.get("content-encoding")).toBe("gzip");
  expect(JSON.parse(await packed.text()).version).toBe(1);
  const file = await edge.askCache(cache, `serve/${hash}/docs/a.txt`, plain);
  expect([file.headers.get("content-length"), await file.text()]).toEqual(["4", "text"]);
  expect(file.headers.get("content-security-policy")).toBe("sandbox");
  const folder = await edge.askCache(cache, `serve/${hash}/docs`);
  expect(folder.headers.get("content-type")).toBe("application/zstd");
  expect((await folder.arrayBuffer()).byteLength).toBeGreaterThan(100);
  // More than are opened at a time: requests wait for each other.
  const texts = Array.from({ length: 8 }, async () => (await edge.askCache(cache, `serve/${hash}/docs/a.txt`)).text());
  expect(new Set(await Promise.all(texts))).toEqual(new Set(["text"]));
});

test("a realisation is signed with the cache's key, which the Worker opens with the crypt secret", async () => {
  const path = await offer("realised");
  const row = { hash: "ab".repeat(32), output: "out", dependents: [], signatures: [] };
  const store_path = storePathBaseName(path.storePath);
  await inTransaction(edge.bench.deps.db, (trx) => insertRealisations(trx, [cache.id], [{ ...row, store_path }]));

  const response = await edge.askCache(cache, `realisations/sha256:${row.hash}!out.doi`);

  expect(response.status).toBe(200);
  const { outPath, signatures } = (await response.json()) as { outPath: string; signatures: string[] };
  expect(outPath).toBe(store_path);
  expect(signatures[0]).toContain(cache.publicKey.split(":")[0]);
});

test("a private cache challenges strangers, opens for a key as the password, and hides from others", async () => {
  const hidden = await edge.bench.makeCache({ public: false });
  const path = await offer("hidden", 100, hidden);
  const owner = await edge.reader("ada", hidden);
  const other = await makePerson(edge.bench, "eve");
  const ask = async (where: { name: string }, password?: string, headers: Record<string, string> = {}) => {
    const authorization = `Basic ${btoa(`x:${password}`)}`;
    const response = await edge.askCache(where, narInfoOf(path), {
      headers: { ...headers, ...(password !== undefined && { authorization }) },
    });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };

  const anonymous = await ask(hidden);
  expect(anonymous.status).toBe(401);
  expect(anonymous.headers.get("www-authenticate")).toBe('Basic realm="gradient"');
  expect((await ask({ name: "no-such-cache" })).text).toBe(anonymous.text);
  const read = await ask(hidden, owner.session);
  expect(read.status).toBe(200);
  expect(read.headers.get("cache-control")).toBe("private, no-store");
  expect((await ask(hidden, other.session)).status).toBe(404);
  expect((await ask(hidden, "wrong")).status).toBe(401);

  const key = await owner.key({ cache: hidden.name, permissions: ["readStore"], allowedIps: ["203.0.113.0/24"] });
  expect((await ask(hidden, key, { "cf-connecting-ip": "203.0.113.9" })).status).toBe(200);
  expect((await ask(hidden, key, { "cf-connecting-ip": "203.0.114.9" })).status).toBe(401);
  const forged = { "cf-connecting-ip": "203.0.114.9", "x-forwarded-for": "203.0.113.9" };
  expect((await ask(hidden, key, forged)).status).toBe(401);
});

test("a path that was asked for here counts as used, and no connection stays open", async () => {
  const { db } = edge.bench.deps;
  const path = await offer("used");
  const hash = storePathHash(path.storePath);
  const old = { last_used_at: new Date("2026-01-01T00:00:00Z") };
  await db.updateTable("cache_path").set(old).where("hash", "=", hash).execute();

  expect((await edge.askCache(cache, narInfoOf(path))).status).toBe(200);

  const lastUse = () =>
    db.selectFrom("cache_path").select("last_used_at").where("hash", "=", hash).executeTakeFirstOrThrow();
  await expect.poll(async () => (await lastUse()).last_used_at.getTime()).toBeGreaterThan(old.last_used_at.getTime());
  await expect.poll(() => edge.database.open.size).toBe(0);
});

test("a client that goes away in the middle leaves nothing open", async () => {
  const path = await offer("large", 7_000_000);
  const gone = new AbortController();
  const response = await edge.askCache(cache, await narUrl(path), { signal: gone.signal });
  await response.body?.getReader().read();
  gone.abort();

  await expect.poll(() => edge.workerd.logged.join(""), { timeout: 10_000 }).toContain("an answer was cut off");
  await expect.poll(() => edge.database.open.size, { timeout: 10_000 }).toBe(0);
});

test("what pushes is told that this address is for reading", async () => {
  const response = await edge.askCache(cache, `${ABSENT}.narinfo`, { method: "PUT", body: "StorePath: x" });
  expect(response.status).toBe(405);
  expect(response.headers.get("allow")).toBe("GET, HEAD");
  expect(await response.json()).toMatchObject({ error: true, code: "method_not_allowed" });
});

test("nothing of all this failed for want of a right, or behind the client's back", () => {
  const { logged } = edge.workerd;
  expect(logged.filter((line) => /permission denied|could not|did not end well/.test(line))).toEqual([]);
});

/** What the servers of the database are told. */
async function startServersEar(): Promise<AsyncDisposable & { readonly heard: string[] }> {
  const heard: string[] = [];
  const notifier = await startNotifier(edge.bench.database.address, quietLogger);
  notifier.subscribe("path", (subject) => heard.push(`path ${subject}`));
  return { heard, [Symbol.asyncDispose]: () => notifier.close() };
}
