import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { brotliCompressSync, gzipSync, zstdCompressSync } from "node:zlib";
import { xz } from "@napi-rs/lzma";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bytes, concatBytes, utf8 } from "#core/lib/bytes.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { fingerprint, parsePublicKey, verify } from "#core/nix/signature.ts";
import { narOf } from "#core/services/nar.ts";
import { reportDamage } from "#core/services/nar-damage.ts";
import {
  type LocalPath,
  localPath,
  NAR_UPLOAD_BYTES_MAX,
  narInfoText,
  narName,
  type PushBench,
  push,
  type TestPusher,
  withPushBench,
} from "./push-support.ts";
import { bodyOf, newId, randomContent, type TestCache } from "./support.ts";

let bench: PushBench;
let cache: TestCache;
let ada: TestPusher;

beforeAll(async () => {
  bench = await withPushBench();
  cache = await bench.makeCache();
  ada = await bench.pusher({ [cache.id]: "Write" });
});
afterAll(() => bench?.[Symbol.asyncDispose]());

const bzip2 = spawnSync("bzip2", ["--help"]).error === undefined;
const FORMS: Record<string, (nar: Bytes) => Uint8Array> = {
  none: (nar) => nar,
  zstd: (nar) => zstdCompressSync(nar),
  xz: (nar) => xz.compressSync(nar),
  gzip: (nar) => gzipSync(nar),
  br: (nar) => brotliCompressSync(nar),
  ...(bzip2 ? { bzip2: (nar: Bytes) => spawnSync("bzip2", ["-c"], { input: nar }).stdout } : {}),
};

async function expectServed(name: string, path: LocalPath, as?: TestPusher): Promise<void> {
  const answer = await bench.ask("GET", `${name}/${path.hash}.narinfo`, as ? { as } : {});
  expect(answer.status).toBe(200);
  const info = parseNarInfo(await answer.text());
  expect(info).toMatchObject({ storePath: path.storePath, narHash: path.narHash, narSize: path.nar.length });
  const file = await bodyOf(await bench.ask("GET", `${name}/${info.url}`, as ? { as } : {}));
  const nar = await collect(bench.deps.codec.decompress("zstd", streamOf(file)) ?? streamOf(), 2 ** 30);
  expect(Buffer.compare(nar, path.nar)).toBe(0);
}

describe("what the stock client puts", () => {
  test.each(Object.keys(FORMS))(
    "a NAR that comes as %s is known by its bytes, whatever its name says",
    async (form) => {
      const path = await localPath("path", { content: concatBytes([randomContent(2_000), new Uint8Array(200_000)]) });
      const file = new Uint8Array((FORMS[form] as (nar: Bytes) => Uint8Array)(path.nar));
      const name = await narName(file, ".nar.lzip");
      expect((await bench.ask("HEAD", `${cache.name}/${name}`, { as: ada })).status).toBe(404);
      expect((await bench.ask("PUT", `${cache.name}/${name}`, { as: ada, body: file })).status).toBe(200);
      expect((await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).status).toBe(404);
      const body = await narInfoText(path, { file, signatures: ["other-1:abcd", "cache.example.org-x:efgh"] });
      expect((await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: ada, body })).status).toBe(200);

      await expectServed(cache.name, path);
      const text = await (await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).text();
      const info = parseNarInfo(text);
      const key = parsePublicKey(cache.publicKey);
      expect(await verify(key as NonNullable<typeof key>, fingerprint(info), info.signatures[0] as string)).toBe(true);
      expect(info.signatures.slice(1)).toEqual(["other-1:abcd", "cache.example.org-x:efgh"]);
    },
  );

  test("bytes of no known form are refused with words, and leave nothing", async () => {
    const before = await bench.objectFiles();
    for (const body of [
      randomContent(5_000),
      utf8("LZIP and more"),
      brotliCompressSync(utf8("no NAR at all")),
      utf8(""),
    ]) {
      const file = new Uint8Array(body);
      const answer = await bench.ask("PUT", `${cache.name}/${await narName(file)}`, { as: ada, body: file });
      expect(answer.status).toBe(415);
      expect(((await answer.json()) as { message: string }).message).toContain("zstd, xz, gzip, bzip2, br");
    }
    expect(await bench.objectFiles()).toEqual(before);
  });

  test("a file that is not what its name says, no NAR, or cut off, is refused and leaves nothing", async () => {
    const before = await bench.objectFiles();
    const { nar } = await localPath("path", { content: randomContent(300_000) });
    const put = async (file: Bytes, name: string) =>
      (await bench.ask("PUT", `${cache.name}/${name}`, { as: ada, body: file })).status;
    expect(await put(nar, await narName(randomContent(10)))).toBe(422);
    const packed = new Uint8Array(xz.compressSync(nar));
    expect(await put(packed, await narName(nar))).toBe(422);
    expect(await put(packed.subarray(0, -9), await narName(packed.slice(0, -9)))).toBe(422);
    expect(await put(nar.subarray(0, -9), await narName(nar.slice(0, -9)))).toBe(422);
    const noNar = new Uint8Array(gzipSync("no NAR"));
    expect(await put(noNar, await narName(noNar))).toBe(422);
    const broken = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(nar.subarray(0, 100_000)),
      pull: (controller) => controller.error(new Error("the line went dead")),
    });
    const answer = await bench.ask("PUT", `${cache.name}/${await narName(nar)}`, { as: ada, body: broken });
    expect(answer.status).toBe(400);
    expect(await bench.objectFiles()).toEqual(before);
  });

  test("a path that is there already is answered 200 and stays as it is", async () => {
    const path = await localPath("path");
    expect(await push(bench, ada, cache, path)).toBe(200);
    const before = await (await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).text();
    expect(await push(bench, ada, cache, path)).toBe(200);
    const other = { ...path, nar: (await localPath("path")).nar };
    expect(await push(bench, ada, cache, { ...other, narHash: (await localPath("x")).narHash })).toBe(200);
    const never = await narInfoText({ ...path, narHash: (await localPath("x")).narHash });
    expect((await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: ada, body: never })).status).toBe(200);

    expect(await (await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).text()).toBe(before);
    await expectServed(cache.name, path);
  });

  test("a path whose references are not there is refused with words, until they are", async () => {
    const library = await localPath("library");
    const program = await localPath("program", { references: [library.storePath] });
    const body = await narInfoText(program);
    await bench.ask("PUT", `${cache.name}/${await narName(program.nar)}`, { as: ada, body: program.nar });
    const refused = await bench.ask("PUT", `${cache.name}/${program.hash}.narinfo`, { as: ada, body });
    expect(refused.status).toBe(422);
    const { message } = (await refused.json()) as { message: string };
    expect(message).toContain(`${program.storePath} refers to ${library.storePath}`);
    expect((await bench.ask("GET", `${cache.name}/${program.hash}.narinfo`)).status).toBe(404);

    expect(await push(bench, ada, cache, library)).toBe(200);
    expect((await bench.ask("PUT", `${cache.name}/${program.hash}.narinfo`, { as: ada, body })).status).toBe(200);
    await expectServed(cache.name, program);
  });

  test("a narinfo that is none, or of another name or size, is refused", async () => {
    const path = await localPath("path");
    await bench.ask("PUT", `${cache.name}/${await narName(path.nar)}`, { as: ada, body: path.nar });
    const text = await narInfoText(path);
    const { hash } = await localPath("other");
    const put = async (name: string, body: string, headers = {}) =>
      (await bench.ask("PUT", `${cache.name}/${name}.narinfo`, { as: ada, body, headers })).status;
    expect(await put(hash, text)).toBe(422);
    expect(await put(path.hash, "StorePath: x\n")).toBe(422);
    expect(await put(path.hash, text.replace(/NarSize: \d+/, "NarSize: 7"))).toBe(422);
    expect(await put(path.hash, text, { "content-encoding": "compress" })).toBe(415);
    expect(await put(path.hash, text, { "content-encoding": "gzip" })).toBe(400);
    expect(await put(path.hash, text, { "content-length": "999999999" })).toBe(413);
    expect((await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).status).toBe(404);

    const body = new Uint8Array(gzipSync(text));
    const headers = { "content-encoding": "gzip" };
    expect((await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: ada, body, headers })).status).toBe(200);
  });

  test("a damaged NAR is healed by the next push of its path", async () => {
    const path = await localPath("path");
    await push(bench, ada, cache, path);
    const row = await bench.deps.db
      .selectFrom("nar")
      .selectAll()
      .where("nar_hash", "=", path.narHash.digest)
      .executeTakeFirstOrThrow();
    await reportDamage(bench.deps, narOf(row), { fault: "missing", message: "the object is gone" });
    expect((await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).status).toBe(404);

    expect(await push(bench, ada, cache, path)).toBe(200);
    await expectServed(cache.name, path);
  });

  test("logs are kept, the first of each; what the server makes of a NAR itself is not believed", async () => {
    const name = `${"0".repeat(32)}-hello.drv`;
    const put = async (path: string, body: string) =>
      (await bench.ask("PUT", `${cache.name}/${path}`, { as: ada, body })).status;
    expect(await put(`log/${name}`, "it was built\n")).toBe(200);
    expect(await put(`log/${name}`, "something else\n")).toBe(200);
    const read = async (range?: string) =>
      await (await bench.ask("GET", `${cache.name}/log/${name}`, range ? { headers: { range } } : {})).text();
    expect(await read()).toBe("it was built\n");
    expect(await read("bytes=3-5")).toBe("was");
    expect(await put(`${"0".repeat(32)}.ls`, "{}")).toBe(200);
    expect(await put(`debuginfo/${"a".repeat(40)}.debug`, "{}")).toBe(200);
    expect(await put("nix-cache-info", "StoreDir: /nix/store\n")).toBe(200);
    expect(await put("nix-cache-info", "StoreDir: /gnu/store\n")).toBe(422);
    expect(await put("index.html", "hello")).toBe(404);
    expect(await put(`nar/${"0".repeat(52)}.narinfo`, "hello")).toBe(404);
  });

  test("a long log is read in parts, and one that is pushed anew has another tag", async () => {
    const name = `${"1".repeat(32)}-long.drv`;
    const long = randomBytes(1_500_000).toString("hex");
    const ask = async (method: string, body?: string, headers = {}) =>
      await bench.ask(method, `${cache.name}/log/${name}`, {
        as: ada,
        headers,
        ...(body === undefined ? {} : { body }),
      });
    expect((await ask("PUT", long)).status).toBe(200);
    const first = await ask("GET");
    expect(await first.text()).toBe(long);
    expect(await (await ask("GET", undefined, { range: "bytes=2999990-" })).text()).toBe(long.slice(-10));
    await bench.deps.db.deleteFrom("cache_log").where("derivation", "=", name).execute();
    expect((await ask("PUT", "short\n")).status).toBe(200);
    const second = await ask("GET");
    expect(await second.text()).toBe("short\n");
    expect(second.headers.get("etag")).not.toBe(first.headers.get("etag"));
  });

  test("a file beyond the limit is refused before it is read, or while it is when it did not say so", async () => {
    let read = 0;
    const body = () =>
      new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            read += 65_536;
            controller.enqueue(randomContent(65_536));
          },
        },
        { highWaterMark: 0 },
      );
    const path = `${cache.name}/${await narName(randomContent(10))}`;
    const headers = { "content-length": String(NAR_UPLOAD_BYTES_MAX + 1) };
    expect((await bench.ask("PUT", path, { as: ada, body: body(), headers })).status).toBe(413);
    expect(read).toBe(0);
    const { nar } = await localPath("big", { content: randomContent(NAR_UPLOAD_BYTES_MAX + 1) });
    const chunks = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < nar.length; i += 65_536) controller.enqueue(nar.subarray(i, i + 65_536));
        controller.close();
      },
    });
    expect((await bench.ask("PUT", path, { as: ada, body: chunks })).status).toBe(413);
    const bomb = new Uint8Array(
      zstdCompressSync((await localPath("bomb", { content: new Uint8Array(NAR_UPLOAD_BYTES_MAX * 65) })).nar),
    );
    expect((await bench.ask("PUT", `${cache.name}/${await narName(bomb)}`, { as: ada, body: bomb })).status).toBe(413);
  });
});

describe("who may push", () => {
  test("without credentials every name is the same challenge, and what one may not see is not there", async () => {
    const hidden = await bench.makeCache({ public: false });
    const stranger = await bench.pusher();
    const text = async (name: string, as?: TestPusher) => {
      const answer = await bench.ask("PUT", `${name}/${"0".repeat(32)}.narinfo`, { body: "x", ...(as && { as }) });
      return `${answer.status} ${JSON.stringify([...answer.headers])} ${await answer.text()}`;
    };
    const challenge = await text("no-such-cache");
    expect(challenge).toMatch(/^401 .*Basic realm/);
    expect(await text(cache.name)).toBe(challenge);
    expect(await text(hidden.name)).toBe(challenge);
    const absent = await text("no-such-cache", stranger);
    expect(absent).toMatch(/^404 /);
    expect(await text(hidden.name, stranger)).toBe(absent);
    // Whoever may not write to a cache that everybody reads is told so only when they belong to it.
    expect(await text(cache.name, stranger)).toBe(absent);
  });

  test("readers do not write, nor a key for less or for another cache; an inactive cache takes nothing", async () => {
    const path = await localPath("path");
    expect(await push(bench, await bench.pusher({ [cache.id]: "View" }), cache, path)).toBe(403);
    const other = await bench.makeCache();
    const pinned = { id: newId(), permissions: 0b111, organizationId: null, cacheId: other.id };
    const roles = { [cache.id]: "Admin", [other.id]: "Admin" } as const;
    expect(await push(bench, await bench.pusher(roles, pinned), cache, path)).toBe(404);
    expect(await push(bench, await bench.pusher(roles, pinned), other, path)).toBe(200);
    const reading = { ...pinned, permissions: 0b011, cacheId: cache.id };
    expect(await push(bench, await bench.pusher(roles, reading), cache, path)).toBe(403);
    const inactive = await bench.makeCache({ active: false });
    expect(await push(bench, await bench.pusher({ [inactive.id]: "Admin" }), inactive, path)).toBe(409);
    expect((await bench.ask("GET", `${cache.name}/${path.hash}.narinfo`)).status).toBe(404);
  });
});

describe("sharing is no oracle", () => {
  test("a narinfo for a NAR that was never sent is refused, as one for a NAR that only others have", async () => {
    const secret = await bench.makeCache({ public: false });
    const owner = await bench.pusher({ [secret.id]: "Write" });
    const known = await localPath("secret");
    expect(await push(bench, owner, secret, known)).toBe(200);
    const never = await localPath("secret");
    const refusal = async (path: LocalPath) => {
      const body = await narInfoText(path);
      const answer = await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: ada, body });
      const text = (await answer.text()).replaceAll(/sha256:[0-9a-z]{52}|\/nix\/store\/[0-9a-z]{32}/g, "…");
      return `${answer.status} ${JSON.stringify([...answer.headers])} ${text}`;
    };
    const refused = await refusal(never);
    expect(refused).toMatch(/^409 .*has not come to this cache/);
    expect(await refusal(known)).toBe(refused);
    expect((await bench.ask("GET", `${cache.name}/${known.hash}.narinfo`)).status).toBe(404);

    // With its bytes it may be named: whoever has them learns nothing.
    expect(await push(bench, ada, cache, known)).toBe(200);
    await expectServed(cache.name, known);
  });

  test("HEAD tells of what one has sent oneself, to this cache, and of nothing else", async () => {
    const other = await bench.makeCache();
    const [eve, both] = [
      await bench.pusher({ [cache.id]: "Write" }),
      await bench.pusher({ [cache.id]: "Write", [other.id]: "Write" }),
    ];
    const path = await localPath("path");
    const name = await narName(path.nar);
    const head = async (cacheName: string, as?: TestPusher) =>
      (await bench.ask("HEAD", `${cacheName}/${name}`, as ? { as } : {})).status;
    await bench.ask("PUT", `${cache.name}/${name}`, { as: both, body: path.nar });
    expect(await head(cache.name, both)).toBe(200);
    expect(await head(other.name, both)).toBe(404);
    expect(await head(cache.name, eve)).toBe(404);
    expect(await head(cache.name)).toBe(404);
    expect((await bench.ask("GET", `${cache.name}/${name}`, { as: both })).status).toBe(404);

    // Nor does it help to name what another has sent and not yet named.
    const body = await narInfoText(path);
    expect((await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: eve, body })).status).toBe(409);
    expect((await bench.ask("PUT", `${other.name}/${path.hash}.narinfo`, { as: both, body })).status).toBe(409);
    expect((await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as: both, body })).status).toBe(200);
    expect(await head(cache.name, both)).toBe(404);
  });

  test("what everybody can read may be named without being sent again", async () => {
    const path = await localPath("path");
    expect(await push(bench, ada, cache, path)).toBe(200);
    const own = await bench.makeCache({ public: false });
    const eve = await bench.pusher({ [own.id]: "Write" });
    const body = await narInfoText(path);
    expect((await bench.ask("PUT", `${own.name}/${path.hash}.narinfo`, { as: eve, body })).status).toBe(200);
    await expectServed(own.name, path, eve);
  });
});
