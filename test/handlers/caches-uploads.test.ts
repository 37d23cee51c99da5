import { zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Bytes, concatBytes } from "#core/lib/bytes.ts";
import { collect } from "#core/lib/streams.ts";
import { formatHash } from "#core/nix/hash.ts";
import { parseNarInfo } from "#core/nix/narinfo.ts";
import { lookUpNar, NarInfoLookUp } from "#core/services/cache-lookup.ts";
import { tidyUploads } from "#core/services/cache-upload-tidy.ts";
import { openNar } from "#core/services/nar-open.ts";
import { createApp } from "#handlers/app.ts";
import { openS3BlobStore } from "#runtime/node/s3/blob-store.ts";
import { createS3Client } from "#runtime/node/s3/client.ts";
import { type LocalPath, localPath } from "#test/cache/push-support.ts";
import { narHashOf, randomContent } from "#test/cache/support.ts";
import { radosgwAvailable, withBucket } from "#test/support/radosgw.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let app: TestApp;
let ada: TestUser;
let cacheId: string;
const objects = async () => {
  const keys: string[] = [];
  for (const prefix of ["nar/", "staging/"])
    keys.push(...(await app.deps.blobs.list(prefix)).objects.map(({ key }) => key));
  return keys;
};

beforeAll(async () => {
  app = await withApp();
  ada = await app.user("ada");
  cacheId = await makeCache("main", ada);
});
afterAll(() => app?.[Symbol.asyncDispose]());

async function makeCache(name: string, owner: TestUser): Promise<string> {
  const body = { name, display_name: name };
  const { body: answer, status } = await app.ask("PUT", "/caches", { token: owner.token, body });
  expect(status).toBe(200);
  const id = answer.message as string;
  await app.db.deleteFrom("cache_upstream").where("cache_id", "=", id).execute();
  return id;
}

interface Described extends LocalPath {
  readonly file: Bytes;
  readonly described: Record<string, unknown>;
}

async function makePath(name = "path", options: Parameters<typeof localPath>[1] = {}): Promise<Described> {
  const path = await localPath(name, options);
  const file = new Uint8Array(zstdCompressSync(path.nar));
  const described = {
    store_path: path.storePath,
    nar_hash: formatHash(path.narHash, "nix32"),
    nar_size: path.nar.length,
    file_hash: formatHash(await narHashOf(file), "nix32"),
    file_size: file.length,
    references: path.references,
  };
  return { ...path, file, described };
}

async function ask(method: string, path: string, body?: unknown, as: TestUser = ada, target = app.app) {
  const isRaw = body instanceof Uint8Array || body instanceof FormData;
  const response = await target.request(`http://127.0.0.1/api/v1${path}`, {
    method,
    headers: {
      authorization: `Bearer ${as.token}`,
      ...(body === undefined || isRaw ? {} : { "content-type": "application/json" }),
    },
    ...(body === undefined ? {} : { body: isRaw ? (body as Bytes) : JSON.stringify(body) }),
  });
  const answer = JSON.parse(await response.text()) as { code?: string; message: never };
  return { status: response.status, headers: response.headers, ...answer };
}

function form(path: Described, file: Bytes = path.file, described: object = path.described): FormData {
  const data = new FormData();
  data.append("narinfo", JSON.stringify(described));
  data.append("nar", new Blob([file]), "nar");
  return data;
}

async function expectServed(path: LocalPath, id = cacheId, deps = app.deps): Promise<void> {
  const text = (await new NarInfoLookUp(deps).find({ cacheId: id, hash: path.hash }))?.text;
  const info = parseNarInfo(text ?? "");
  expect(info).toMatchObject({
    storePath: path.storePath,
    narHash: path.narHash,
    references: [...path.references].sort(),
  });
  const nar = await lookUpNar(deps, { cacheId: id, fileHash: info.fileHash?.digest as Bytes });
  const file = nar && (await openNar(deps, nar.nar));
  const unpacked = file && deps.codec.decompress("zstd", file);
  expect(Buffer.compare(await collect(unpacked as AsyncIterable<Uint8Array>, 2 ** 30), path.nar)).toBe(0);
}

async function expectAbsent(path: LocalPath): Promise<void> {
  expect(await new NarInfoLookUp(app.deps).find({ cacheId, hash: path.hash })).toBeNull();
}

describe("a path in one request", () => {
  test("is there from then on; a second time nothing changes", async () => {
    const path = await makePath();
    const first = await ask("POST", "/caches/main/nars", form(path));
    expect(first).toMatchObject({ status: 201, message: { store_path: path.storePath, created: true } });
    await expectServed(path);
    const again = await ask("POST", "/caches/main/nars", form(path));
    expect(again).toMatchObject({ status: 201, message: { store_path: path.storePath, created: false } });
  });

  test("is refused whole when anything about it is not as described", async () => {
    const path = await makePath();
    const other = await makePath();
    const before = await objects();
    const refused = async (file: Bytes, described: object) => {
      const { status, code } = await ask("POST", "/caches/main/nars", form(path, file, described));
      return `${status} ${code}`;
    };
    expect(await refused(other.file, path.described)).toBe("422 unprocessable_entity");
    expect(await refused(path.file, { ...path.described, file_hash: other.described.file_hash })).toBe(
      "422 unprocessable_entity",
    );
    expect(await refused(path.file, { ...path.described, nar_size: path.nar.length + 1 })).toBe(
      "422 unprocessable_entity",
    );
    expect(await refused(path.file, { ...path.described, nar_hash: "sha256:x" })).toBe("400 validation");
    expect(await refused(path.file, { ...path.described, store_path: "/nix/store/x" })).toBe("400 validation");
    expect(await refused(path.file, { ...path.described, references: ["../x"] })).toBe("400 validation");
    expect(await refused(randomContent(3_000), path.described)).toMatch(/^415/);
    const nothing = new FormData();
    nothing.append("narinfo", JSON.stringify(path.described));
    expect(await ask("POST", "/caches/main/nars", nothing)).toMatchObject({ status: 400, code: "bad_request" });
    expect(await ask("POST", "/caches/main/nars", path.described)).toMatchObject({ status: 415 });
    await expectAbsent(path);
    expect(await objects()).toEqual(before);
  });

  test("beyond the limit is refused before it is read", async () => {
    const response = await app.app.request("http://127.0.0.1/api/v1/caches/main/nars", {
      method: "POST",
      headers: { authorization: `Bearer ${ada.token}`, "content-length": "99999999" },
      body: "x",
    });
    expect(response.status).toBe(413);
    expect(
      (await ask("PUT", `/caches/main/nars/${"0".repeat(32)}/chunk?offset=0`, new Uint8Array(5 * 1024 * 1024))).status,
    ).toBe(413);
  });
});

describe("a path in parts", () => {
  const chunk = (path: LocalPath, offset: number, bytes: Uint8Array, as = ada) =>
    ask("PUT", `/caches/main/nars/${path.hash}/chunk?offset=${offset}`, bytes, as);

  test("goes on where it stands, whoever answers, and is there when it is finished", async () => {
    const path = await makePath("path", { content: randomContent(300_000) });
    expect(await chunk(path, 0, path.file.slice(0, 100_000))).toMatchObject({
      status: 200,
      message: { received: 100_000 },
    });
    const repeated = await chunk(path, 0, path.file.slice(0, 100_000));
    expect(repeated).toMatchObject({ status: 409 });
    expect(repeated.headers.get("upload-offset")).toBe("100000");
    expect(await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described)).toMatchObject({ status: 422 });

    // Another server on the same database and storage.
    const other = createApp(app.deps);
    const where = await ask("GET", `/caches/main/nars/${path.hash}/chunk`, undefined, ada, other);
    expect(where.message).toEqual({ received: 100_000 });
    await chunk(path, 100_000, path.file.slice(100_000));
    const finished = await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described, ada, other);
    expect(finished).toMatchObject({ status: 201, message: { created: true } });
    await expectServed(path);
    expect((await objects()).filter((key) => key.startsWith("staging/"))).toEqual([]);
    expect(await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described)).toMatchObject({
      status: 201,
      message: { created: false },
    });
  });

  test("that is not what was described begins anew, and one whose references are missing does not", async () => {
    const library = await makePath("library");
    const path = await makePath("program", { references: [library.storePath] });
    await chunk(path, 0, library.file);
    const { file_size: _, ...described } = path.described;
    expect(await ask("POST", `/caches/main/nars/${path.hash}/finalize`, described)).toMatchObject({ status: 422 });
    expect((await ask("GET", `/caches/main/nars/${path.hash}/chunk`)).message).toEqual({ received: 0 });

    await chunk(path, 0, path.file);
    const refused = await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described);
    expect(refused).toMatchObject({ status: 422, message: expect.stringContaining(`refers to ${library.storePath}`) });
    await expectAbsent(path);
    expect((await ask("POST", "/caches/main/nars", form(library))).status).toBe(201);
    expect((await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described)).status).toBe(201);
    await expectServed(path);
  });

  test("is its sender's alone: another member of the cache has an upload of their own", async () => {
    const path = await makePath();
    await chunk(path, 0, path.file);
    const eve = await app.user("eve");
    await app.db
      .insertInto("cache_member")
      .values({ cache_id: cacheId, user_id: eve.id, role_id: "00000000-0000-0000-0000-000000000012" })
      .execute();
    expect((await ask("GET", `/caches/main/nars/${path.hash}/chunk`, undefined, eve)).message).toEqual({ received: 0 });
    expect(await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described, eve)).toMatchObject({
      status: 409,
    });
    await expectAbsent(path);
    expect((await ask("POST", `/caches/main/nars/${path.hash}/finalize`, path.described)).status).toBe(201);
  });

  test("that nobody goes on with is forgotten, with its bytes", async () => {
    const path = await makePath();
    await chunk(path, 0, path.file);
    expect(await objects()).toContainEqual(expect.stringMatching(/^staging\//));
    await tidyUploads(app.deps, { unfinishedMs: 3_600_000 });
    expect((await ask("GET", `/caches/main/nars/${path.hash}/chunk`)).message).toEqual({ received: path.file.length });
    await app.db
      .updateTable("nar_upload")
      .set({ last_used_at: new Date(Date.now() - 7_200_000) })
      .execute();
    await tidyUploads(app.deps, { unfinishedMs: 0 });
    expect((await objects()).filter((key) => key.startsWith("staging/"))).toHaveLength(1);
    await tidyUploads(app.deps, { unfinishedMs: 3_600_000 });
    expect((await ask("GET", `/caches/main/nars/${path.hash}/chunk`)).message).toEqual({ received: 0 });
    expect((await objects()).filter((key) => key.startsWith("staging/"))).toEqual([]);
  });
});

describe("a closure", () => {
  test("appears as a whole or not at all, in whatever order it is named", async () => {
    const library = await makePath("library");
    const program = await makePath("program", { references: [library.storePath] });
    const nowhere = await makePath("nowhere");
    for (const path of [program, library]) {
      const sent = await ask("POST", "/caches/main/nars?commit=later", form(path));
      expect(sent).toMatchObject({ status: 201, message: { created: false } });
      await expectAbsent(path);
    }
    const closure = (...paths: Described[]) =>
      ask("POST", "/caches/main/closures", { paths: paths.map((path) => path.described) });

    expect(await closure(program, library, nowhere)).toMatchObject({ status: 409 });
    expect(await closure(program)).toMatchObject({ status: 422 });
    for (const path of [program, library, nowhere]) await expectAbsent(path);
    const committed = await closure(program, library);
    expect(committed).toMatchObject({ status: 201 });
    expect([...(committed.message as { created: string[] }).created].sort()).toEqual(
      [program.storePath, library.storePath].sort(),
    );
    await expectServed(program);
    await expectServed(library);
    expect(await closure(program, library)).toMatchObject({ status: 201, message: { created: [] } });
    expect(await app.db.selectFrom("sent_nar").selectAll().execute()).toEqual([]);
  });

  test("knows beforehand what of it is missing, and what of that need not be sent", async () => {
    const [present, sent, unknown] = [await makePath(), await makePath(), await makePath()];
    await ask("POST", "/caches/main/nars", form(present));
    await ask("POST", "/caches/main/nars?commit=later", form(sent));
    const question = (as = ada, cache = "main") =>
      ask(
        "POST",
        `/caches/${cache}/nars/missing`,
        {
          paths: [present, sent, unknown].map(({ described: { store_path, nar_hash } }) => ({ store_path, nar_hash })),
        },
        as,
      );
    expect((await question()).message).toEqual({
      missing: [sent.storePath, unknown.storePath],
      known_nars: [sent.storePath],
    });
    const bob = await app.user("bob");
    expect(await question(bob)).toMatchObject({ status: 404 });
    await makeCache("bobs", bob);
    expect((await question(bob, "bobs")).message).toEqual({
      missing: [present.storePath, sent.storePath, unknown.storePath],
      known_nars: [],
    });
  });

  test("whose NARs are sent and never named is forgotten", async () => {
    const path = await makePath();
    await ask("POST", "/caches/main/nars?commit=later", form(path));
    await tidyUploads(app.deps, { unfinishedMs: 1, sentKeptMs: 0 });
    expect(await ask("POST", "/caches/main/closures", { paths: [path.described] })).toMatchObject({ status: 409 });
  });
});

describe("straight into the storage", () => {
  test("is not offered where the storage takes nothing by itself", async () => {
    const answer = await ask("POST", `/caches/main/nars/${"0".repeat(32)}/presigned`, { file_size: 5 });
    expect(answer).toMatchObject({ status: 422, message: expect.stringContaining("/chunk") });
  });
});

describe.skipIf(!radosgwAvailable())("straight into S3", () => {
  interface Begun {
    readonly parts: readonly { readonly number: number; readonly size: number; readonly url: string }[];
  }
  const MIB = 1024 * 1024;
  let direct: ReturnType<typeof createApp>;
  let deps: TestApp["deps"];
  let client: ReturnType<typeof createS3Client>;

  beforeAll(async () => {
    const settings = await withBucket();
    client = createS3Client(settings);
    deps = { ...app.deps, blobs: openS3BlobStore(client, settings), narUploadBytesMax: 64 * MIB };
    direct = createApp(deps);
  });
  afterAll(() => client?.destroy());

  const call = (method: string, path: string, body?: unknown, as = ada) => ask(method, path, body, as, direct);

  async function begin(path: Described): Promise<Begun> {
    const answer = await call("POST", `/caches/main/nars/${path.hash}/presigned`, { file_size: path.file.length });
    expect(answer.status).toBe(201);
    return answer.message;
  }

  async function put({ parts }: Begun, file: Bytes): Promise<{ number: number; etag: string }[]> {
    let start = 0;
    const done: { number: number; etag: string }[] = [];
    for (const { number, size, url } of parts) {
      const response = await fetch(url, { method: "PUT", body: file.slice(start, start + size) });
      expect(response.status).toBe(200);
      done.push({ number, etag: response.headers.get("etag") ?? "" });
      start += size;
    }
    return done;
  }

  const complete = (path: Described, parts: readonly object[], described: object = path.described) =>
    call("POST", `/caches/main/nars/${path.hash}/presigned/complete`, { path: described, parts });

  const stored = async () => (await deps.blobs.list("")).objects.map(({ key }) => key);

  test("a file comes in parts, is proven where it lies, and its URLs lead nowhere then", async () => {
    const path = await makePath("path", { content: randomContent(20 * MIB) });
    const begun = await begin(path);
    expect(begun.parts.map(({ size }) => size)).toEqual([16 * MIB, path.file.length - 16 * MIB]);
    const parts = await put(begun, path.file);
    await expectAbsent(path);
    expect(await complete(path, parts.toReversed())).toMatchObject({ status: 201, message: { created: true } });
    await expectServed(path, cacheId, deps);

    // The attack: other bytes by the old URLs, to what was proven.
    for (const { url, size } of begun.parts) {
      expect((await fetch(url, { method: "PUT", body: new Uint8Array(size) })).status).toBe(404);
    }
    expect(await stored()).toEqual([expect.stringMatching(/^nar\//)]);
    await expectServed(path, cacheId, deps);
    expect(await complete(path, parts)).toMatchObject({ status: 201, message: { created: false } });
  });

  test("what is not as described is refused and forgotten, and what is not whole waits", async () => {
    const before = await stored();
    const [path, other] = [await makePath("path", { content: randomContent(20 * MIB) }), await makePath()];
    const begun = await begin(path);
    const parts = await put(begun, path.file);
    expect(await complete(path, parts.slice(0, 1))).toMatchObject({
      status: expect.toSatisfy((status) => [409, 422].includes(status)),
    });
    const again = await put(await begin(path), path.file);
    const wrong = { ...path.described, nar_hash: other.described.nar_hash };
    expect(await complete(path, again, wrong)).toMatchObject({ status: 422 });
    await expectAbsent(path);
    expect(await stored()).toEqual(before);
    expect(await complete(path, again)).toMatchObject({ status: 409 });
  });

  test("a file in another form becomes zstd on its way", async () => {
    const path = await makePath("path", { content: concatBytes([randomContent(1_000), new Uint8Array(100_000)]) });
    const plain = { ...path, file: path.nar };
    const described = {
      ...path.described,
      file_hash: path.described.nar_hash,
      file_size: path.nar.length,
    };
    expect(await complete(plain, await put(await begin(plain), plain.file), described)).toMatchObject({ status: 201 });
    await expectServed(path, cacheId, deps);
  });

  test("an upload that is given up leaves nothing, nor does one that nobody goes on with", async () => {
    const before = await stored();
    const path = await makePath("path", { content: randomContent(20 * MIB) });
    const begun = await begin(path);
    await put(begun, path.file);
    expect((await call("DELETE", `/caches/main/nars/${path.hash}/presigned`)).status).toBe(200);
    expect((await fetch(begun.parts[0]?.url ?? "", { method: "PUT", body: path.file.slice(0, 16 * MIB) })).status).toBe(
      404,
    );
    await begin(path);
    await app.db
      .updateTable("nar_upload")
      .set({ last_used_at: new Date(0) })
      .execute();
    await tidyUploads(deps, { unfinishedMs: 1_000 });
    expect(await app.db.selectFrom("nar_upload").selectAll().execute()).toEqual([]);
    expect(await stored()).toEqual(before);
    expect(await call("POST", `/caches/main/nars/${path.hash}/presigned`, { file_size: 65 * MIB })).toMatchObject({
      status: 413,
    });
  });
});

test("the hash in the address is one of a store path, and the body speaks of the same path", async () => {
  const [path, other] = [await makePath(), await makePath()];
  expect(await ask("PUT", "/caches/main/nars/nonsense/chunk?offset=0", path.file)).toMatchObject({ status: 400 });
  expect(await ask("PUT", `/caches/main/nars/${path.hash}/chunk?offset=-1`, path.file)).toMatchObject({ status: 400 });
  expect(await ask("POST", `/caches/main/nars/${other.hash}/finalize`, path.described)).toMatchObject({ status: 400 });
});

test("who may not write to a cache is told what every other refusal tells, at every address", async () => {
  await makeCache("hidden", ada);
  const [stranger, reader] = [await app.user("stranger"), await app.user("reader")];
  const viewRole = "00000000-0000-0000-0000-000000000013";
  await app.db
    .insertInto("cache_member")
    .values({ cache_id: cacheId, user_id: reader.id, role_id: viewRole })
    .execute();
  const path = await makePath();
  const requests = (cache: string): readonly (readonly [string, string, unknown?])[] => [
    ["POST", `/caches/${cache}/nars`, form(path)],
    ["POST", `/caches/${cache}/nars/missing`, { paths: [] }],
    ["GET", `/caches/${cache}/nars/${path.hash}/chunk`],
    ["PUT", `/caches/${cache}/nars/${path.hash}/chunk?offset=0`, path.file],
    ["POST", `/caches/${cache}/nars/${path.hash}/finalize`, path.described],
    ["POST", `/caches/${cache}/nars/${path.hash}/presigned`, { file_size: 5 }],
    ["DELETE", `/caches/${cache}/nars/${path.hash}/presigned`],
    [
      "POST",
      `/caches/${cache}/nars/${path.hash}/presigned/complete`,
      { path: path.described, parts: [{ number: 1, etag: "x" }] },
    ],
    ["POST", `/caches/${cache}/closures`, { paths: [path.described] }],
  ];
  const answers = async (cache: string, as: TestUser) => {
    const all = [];
    for (const [method, address, body] of requests(cache)) {
      const { status, code, message } = await ask(method, address, body, as);
      all.push(`${status} ${code} ${message}`);
    }
    return [...new Set(all)];
  };
  const anonymous = { ...ada, token: "" };
  expect(await answers("main", anonymous)).toEqual([expect.stringMatching(/^401 unauthorized/)]);
  expect(await answers("hidden", anonymous)).toEqual(await answers("no-such-cache", anonymous));
  expect(await answers("hidden", stranger)).toEqual([expect.stringMatching(/^404 not_found/)]);
  expect(await answers("no-such-cache", stranger)).toEqual(await answers("hidden", stranger));
  expect(await answers("main", reader)).toEqual([expect.stringMatching(/^403 forbidden .*writeStore/)]);
  await expectAbsent(path);
});
