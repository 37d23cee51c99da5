import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { type Bytes, concatBytes, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { formatHash } from "#core/nix/hash.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import {
  bodyOf,
  type CacheBench,
  compressed,
  cut,
  fileNar,
  narHashOf,
  randomContent,
  withCacheBench,
} from "./support.ts";

async function expectNothingStored(bench: CacheBench): Promise<void> {
  expect(await bench.objectFiles()).toEqual([]);
  expect(await bench.deps.db.selectFrom("nar").selectAll().execute()).toEqual([]);
}

async function upload(bench: CacheBench, nar: Bytes, compression: "zstd" | "none" = "zstd") {
  const body = compression === "zstd" ? await compressed(nar) : nar;
  const narHash = await narHashOf(nar);
  return await receiveNar(bench.deps, { narHash, narSize: nar.length, compression, body: streamOf(...cut(body)) });
}

test("a zstd file is stored as it came, byte for byte", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(700_000));
  const file = await compressed(nar);
  const narHash = await narHashOf(nar);
  const stored = await receiveNar(bench.deps, {
    narHash,
    narSize: nar.length,
    fileHash: await narHashOf(file),
    compression: "zstd",
    body: streamOf(...cut(file, 10_000)),
  });

  const objects = await bench.objectFiles();
  expect(objects).toHaveLength(1);
  expect(Buffer.compare(await readFile(objects[0] as string), file)).toBe(0);
  expect(stored).toMatchObject({ narHash, narSize: nar.length, fileSize: file.length, compression: "zstd" });
  expect(stored.objectKey).toMatch(/^nar\/[0-9a-z]{52}\/[0-9a-f-]{36}$/);
});

test.each([
  ["none", (nar: Bytes) => nar],
  ["gzip", (nar: Bytes) => gzipSync(nar)],
  ["br", (nar: Bytes) => brotliCompressSync(nar)],
] as const)("a NAR sent as %s is stored as zstd and reads back the same", async (compression, encode) => {
  await using bench = await withCacheBench();
  const nar = await fileNar(concatBytes([randomContent(50_000), new Uint8Array(400_000)]));
  const body = streamOf(...cut(new Uint8Array(encode(nar))));
  const narHash = await narHashOf(nar);
  const stored = await receiveNar(bench.deps, { narHash, narSize: nar.length, compression, body });

  const file = new Uint8Array(await readFile((await bench.objectFiles())[0] as string));
  expect(stored.fileHash).toEqual(await narHashOf(file));
  expect(stored.fileSize).toBe(file.length);
  const unpacked = new Response(
    ReadableStream.from(bench.deps.codec.decompress("zstd", streamOf(file)) as AsyncIterable<Uint8Array>),
  );
  expect(Buffer.compare(await bodyOf(unpacked), nar)).toBe(0);
});

test("a small file is proven in one go, and with anything amiss it is refused as a large one is", async () => {
  await using bench = await withCacheBench();
  let streams = 0;
  const decompress: typeof bench.deps.codec.decompress = (...given) => {
    streams++;
    return bench.deps.codec.decompress(...given);
  };
  const deps = { ...bench.deps, codec: { ...bench.deps.codec, decompress } };
  const nar = await fileNar(randomContent(2_000));
  const file = await compressed(nar);
  const narHash = await narHashOf(nar);
  const send = (body: Bytes, change: object = {}) =>
    receiveNar(deps, {
      narHash,
      narSize: nar.length,
      compression: "zstd",
      body: streamOf(...cut(body, 700)),
      ...change,
    });

  await expect(send(concatBytes([file, utf8("more")]))).rejects.toThrow("cannot be read as zstd");
  await expect(send(file.subarray(0, file.length - 1))).rejects.toMatchObject({ code: "unprocessable_entity" });
  await expect(send(file, { narSize: nar.length - 1 })).rejects.toMatchObject({ code: "unprocessable_entity" });
  await expect(send(file, { fileHash: narHash })).rejects.toThrow("the file has the hash");
  await expect(send(file, { narHash: await narHashOf(file) })).rejects.toThrow("the NAR has the hash");
  await expectNothingStored(bench);
  streams = 0;
  await send(file);
  expect(streams).toBe(0);
});

test("a NAR that is sent twice is stored once, and the first object stays", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(utf8("the same"));
  const [first, second, third] = [await upload(bench, nar), await upload(bench, nar, "none"), await upload(bench, nar)];

  expect(second).toEqual(first);
  expect(third).toEqual(first);
  expect(await bench.objectFiles()).toHaveLength(1);
});

test("many who send one NAR at the same time store it once", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(100_000));
  const stored = await Promise.all(Array.from({ length: 8 }, () => upload(bench, nar)));

  expect(new Set(stored.map((one) => one.objectKey)).size).toBe(1);
  expect(await bench.objectFiles()).toHaveLength(1);
});

test("a damaged NAR is replaced by the next upload, and both file names lead to it", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(10_000));
  const first = await upload(bench, nar);
  await bench.deps.db.updateTable("nar").set({ damaged_at: new Date() }).execute();

  const second = await upload(bench, nar, "none");
  expect(second.objectKey).not.toBe(first.objectKey);
  expect(await bench.objectFiles()).toHaveLength(1);
  expect((await bench.deps.blobs.head(second.objectKey))?.size).toBe(second.fileSize);
  const row = await bench.deps.db.selectFrom("nar").selectAll().executeTakeFirstOrThrow();
  expect(row.damaged_at).toBeNull();
  expect(row.object_key).toBe(second.objectKey);
  expect(await bench.deps.db.selectFrom("nar_file").selectAll().execute()).toHaveLength(2);
});

test("a NAR with another hash than announced is refused with both hashes, and nothing is left", async () => {
  await using bench = await withCacheBench();
  const [announced, sent] = [await fileNar(utf8("good")), await fileNar(utf8("evil"))];
  const [wanted, got] = [await narHashOf(announced), await narHashOf(sent)];
  for (const compression of ["zstd", "none"] as const) {
    const body = streamOf(compression === "zstd" ? await compressed(sent) : sent);
    const receiving = receiveNar(bench.deps, { narHash: wanted, narSize: sent.length, compression, body });
    await expect(receiving).rejects.toMatchObject({ code: "unprocessable_entity" });
    await expect(receiving).rejects.toThrow(formatHash(wanted, "nix32"));
    await expect(receiving).rejects.toThrow(formatHash(got, "nix32"));
  }
  await expectNothingStored(bench);
});

test("a size, a file or bytes that are not what was announced are refused, and nothing is left", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(300_000));
  const narHash = await narHashOf(nar);
  const file = await compressed(nar);
  const noNar = utf8("this is no NAR, but its hash is right");
  const right = { narHash, narSize: nar.length, compression: "zstd" } as const;
  const refused: [Parameters<typeof receiveNar>[1], RegExp][] = [
    [{ ...right, narSize: nar.length + 1, body: streamOf(file) }, /has 300112 bytes, announced were 300113/],
    [{ ...right, narSize: nar.length - 1, body: streamOf(file) }, /larger than the 300111 bytes/],
    [{ ...right, fileHash: narHash, body: streamOf(file) }, /the file has the hash/],
    [{ ...right, body: streamOf(file.subarray(0, file.length - 5)) }, /cannot be read as zstd/],
    [{ ...right, body: streamOf(file, utf8("more")) }, /zstd/],
    [{ ...right, body: streamOf(randomContent(1_000)) }, /cannot be read as zstd/],
    [{ ...right, body: streamOf() }, /cannot be read as zstd|too early/],
    [{ ...right, compression: "none", body: streamOf(file) }, /NAR: it does not start/],
    [{ ...right, compression: "none", body: streamOf(nar.subarray(0, -8)) }, /NAR: it ends too early/],
    [{ narHash: await narHashOf(noNar), narSize: noNar.length, compression: "none", body: streamOf(noNar) }, /NAR: /],
  ];
  for (const [wrong, message] of refused) {
    const receiving = receiveNar(bench.deps, wrong);
    await expect(receiving).rejects.toMatchObject({ code: "unprocessable_entity" });
    await expect(receiving).rejects.toThrow(message);
  }
  const lesser = { ...bench.deps, codec: { ...bench.deps.codec, decompress: () => null } };
  const unread = receiveNar(lesser, { ...right, compression: "bzip2", body: streamOf(file) });
  await expect(unread).rejects.toMatchObject({ code: "unsupported_media_type" });
  await expectNothingStored(bench);
});

test("a small file that unpacks to far more than announced is cut off early", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(new Uint8Array(64 * 1024 * 1024));
  const bomb = await compressed(nar);
  expect(bomb.length).toBeLessThan(20_000);
  let unpacked = 0;
  const codec: typeof bench.deps.codec = {
    ...bench.deps.codec,
    async *decompress(compression, body) {
      for await (const chunk of bench.deps.codec.decompress(compression, body) ?? []) {
        unpacked += chunk.length;
        yield chunk;
      }
    },
  };
  const upload = { narHash: await narHashOf(nar), narSize: 1_000, compression: "zstd" as const, body: streamOf(bomb) };
  await expect(receiveNar({ ...bench.deps, codec }, upload)).rejects.toThrow("larger than the 1000 bytes");
  expect(unpacked).toBeLessThan(2 * 1024 * 1024);
  await expectNothingStored(bench);
});

test("a sender that breaks off leaves nothing, and its own error is told", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(300_000));
  const file = await compressed(nar);
  for (const [compression, sent] of [
    ["zstd", file],
    ["none", nar],
  ] as const) {
    async function* broken() {
      yield sent.subarray(0, 100_000);
      throw new Error("connection lost");
    }
    const upload = { narHash: await narHashOf(nar), narSize: nar.length, compression, body: broken() };
    await expect(receiveNar(bench.deps, upload)).rejects.toThrow("connection lost");
  }
  await expectNothingStored(bench);
});

test("a store that fails while it writes ends the upload, and nothing is left", async () => {
  await using bench = await withCacheBench();
  const nar = await fileNar(randomContent(300_000));
  const blobs: typeof bench.deps.blobs = {
    ...bench.deps.blobs,
    async put(_key, body) {
      for await (const _ of body) throw new Error("disk full");
      return { size: 0 };
    },
  };
  const body = streamOf(...cut(await compressed(nar), 1_000));
  const upload = { narHash: await narHashOf(nar), narSize: nar.length, compression: "zstd" as const, body };
  await expect(receiveNar({ ...bench.deps, blobs }, upload)).rejects.toThrow("disk full");
  await expectNothingStored(bench);
});

test.each(["during the put", "after the put", "after the row"])(
  "a server killed %s leaves no path, and the same upload succeeds afterwards",
  async (moment) => {
    await using bench = await withCacheBench();
    const nar = await fileNar(randomContent(300_000));
    const script = fileURLToPath(new URL("receive-and-die.ts", import.meta.url));
    const child = spawn(process.execPath, [script, bench.database.url, bench.blobFolder, moment], {
      stdio: ["pipe", "inherit", "inherit"],
    });
    child.stdin.end(nar);
    const [, signal] = await once(child, "exit");
    expect(signal).toBe("SIGKILL");

    const rows = await bench.deps.db.selectFrom("nar").selectAll().execute();
    expect(rows).toHaveLength(moment === "after the row" ? 1 : 0);
    for (const row of rows) expect((await bench.deps.blobs.head(row.object_key))?.size).toBe(row.file_size);
    const stored = await upload(bench, nar, "none");
    expect((await bench.deps.blobs.head(stored.objectKey))?.size).toBe(stored.fileSize);
  },
);
