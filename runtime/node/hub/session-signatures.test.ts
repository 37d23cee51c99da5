import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { listProducts } from "#core/db/products.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { fingerprint, formatPublicKey, generateKeyPair, type KeyPair, sign } from "#core/nix/signature.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildResult } from "#core/protocol/worker-messages.ts";
import { CAPABILITIES, type FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";

/** The NAR of a file of four bytes. */
const NAR = narOf("made");

test("a worker's signature is served beside the cache's own when its key has made it, and else dropped", async () => {
  await using bench = await withHub();
  const key = await generateKeyPair("builder-1");
  const worker = await signingWorker(bench, formatPublicKey(key.publicKey));

  const good = await push(bench, worker, (path) => signed(key, path));
  const other = await push(bench, worker, () => signed(key, "/nix/store/0000000000000000000000000000000a-other"));
  const stranger = await generateKeyPair("builder-1");
  const forged = await push(bench, worker, (path) => signed(stranger, path));

  expect((await signaturesOf(bench, good)).map(nameOf).sort()).toEqual(["builder-1", expect.any(String)]);
  expect(await signaturesOf(bench, good)).toContain(await signed(key, good));
  expect((await signaturesOf(bench, other)).map(nameOf)).not.toContain("builder-1");
  expect((await signaturesOf(bench, forged)).map(nameOf)).not.toContain("builder-1");
  const { signing_key } = await registrationOf(bench, worker);
  expect(signing_key).toBe(formatPublicKey(key.publicKey));
});

test("of what a relay brings, the signature of each worker behind it is served, and both keys are shown", async () => {
  await using bench = await withHub();
  const keys = [await generateKeyPair("builder-1"), await generateKeyPair("builder-2")] as const;
  const texts = keys.map(({ publicKey }) => formatPublicKey(publicKey));
  const relay = await signingWorker(bench, null, texts);

  const one = await push(bench, relay, (path) => signed(keys[0], path));
  const two = await push(bench, relay, (path) => signed(keys[1], path));
  const stranger = await generateKeyPair("builder-2");
  const forged = await push(bench, relay, (path) => signed(stranger, path));

  expect(await signaturesOf(bench, one)).toContain(await signed(keys[0], one));
  expect(await signaturesOf(bench, two)).toContain(await signed(keys[1], two));
  expect((await signaturesOf(bench, forged)).map(nameOf)).not.toContain("builder-2");
  expect(await registrationOf(bench, relay)).toEqual({ signing_key: texts.join(" ") });
});

test("a worker cannot sign in the name of a cache", async () => {
  await using bench = await withHub();
  const { public_key } = await bench.db
    .selectFrom("cache_key")
    .innerJoin("cache", "cache.id", "cache_key.cache_id")
    .select("cache_key.public_key")
    .where("cache.kind", "=", 0)
    .executeTakeFirstOrThrow();
  const key = await generateKeyPair(nameOf(public_key));
  const worker = await signingWorker(bench, formatPublicKey(key.publicKey));

  const path = await push(bench, worker, (one) => signed(key, one));

  const signatures = await signaturesOf(bench, path);
  expect(signatures.map(nameOf)).toEqual([nameOf(public_key)]);
  expect(signatures).not.toContain(await signed(key, path));
  expect(await registrationOf(bench, worker)).toEqual({ signing_key: null });
  expect(JSON.stringify(bench.log.lines)).toContain("is that of a cache's key");
});

test("what a build took and offers is kept, and no product outside of its outputs", async () => {
  await using bench = await withHub();
  const worker = await bench.registered();
  const { id, output } = await bench.addBuild("thing");
  const attempt = await take(worker);
  await upload(worker, attempt, output, []);
  const metrics = {
    cpu_user_ms: 30,
    cpu_system_ms: 4,
    peak_memory_bytes: null,
    io_read_bytes: null,
    io_write_bytes: 7,
  };
  const product = { output: "out", type: "doc", subtype: "html", name: "a.html", size: 4 };
  const outside = [
    `${output}/../x`,
    `${output}x/a.html`,
    "/nix/store/0000000000000000000000000000000a-x/a",
    "/etc/passwd",
  ];
  const products = [`${output}/a.html`, ...outside].map((path) => ({ ...product, path }));
  const result: BuildResult = {
    kind: "build",
    status: "built",
    outputs: [],
    failure: null,
    build_ms: 50,
    metrics,
    products,
  };
  worker.send({ type: "job_result", attempt, result });
  await worker.next("job_result_ack");

  expect(await listProducts(bench.db, id)).toEqual([
    { ...product, path: `${output}/a.html`.slice("/nix/store/".length) },
  ]);
  const kept = await bench.db.selectFrom("attempt").selectAll().where("id", "=", attempt).executeTakeFirstOrThrow();
  expect(kept).toMatchObject({ build_ms: 50, ...metrics });
});

async function signingWorker(
  bench: HubBench,
  signingKey: string | null,
  signingKeys: readonly string[] = [],
): Promise<FakeWorker> {
  const workerId = crypto.randomUUID();
  await bench.addRegistration(workerId);
  const worker = bench.worker({ workerId, tokens: { [bench.organizationId]: `token of ${workerId}` } });
  await worker.authenticate();
  await worker.next("init_ack");
  worker.send({
    type: "worker_capabilities",
    groups: [
      { architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: CAPABILITIES.build ? 4 : 0 },
    ],
    max_concurrent_evaluations: 1,
    cpu_count: 4,
    ram_total_mb: 4096,
    ...(signingKey === null ? { signing_keys: [...signingKeys] } : { signing_key: signingKey }),
    attempts: [],
  });
  await worker.next("attempts");
  return worker;
}

/** Uploads the output of a new build with the signature. */
async function push(
  bench: HubBench,
  worker: FakeWorker,
  signature: (path: StorePath) => Promise<string>,
): Promise<StorePath> {
  const { output } = await bench.addBuild("thing");
  await upload(worker, await take(worker), output, [await signature(output)]);
  return output;
}

async function take(worker: FakeWorker): Promise<string> {
  worker.onMessage = (message) => {
    if (message.type === "assign_job" && message.job.kind === "build") {
      worker.connection.refuseStream(message.job.drv.stream);
    }
  };
  worker.send({ type: "request_job", kind: "build", group: 0, free: 1 });
  return (await worker.next("assign_job")).attempt;
}

async function upload(worker: FakeWorker, attempt: string, path: StorePath, signatures: string[]): Promise<void> {
  const info = {
    path,
    nar_hash: narHash().toString("hex"),
    nar_size: NAR.length,
    references: [],
    deriver: null,
    ca: null,
  };
  const stream = worker.connection.openStream();
  const common = { attempt, target: "output", info, compression: "none" } as const;
  worker.send({ type: "nar_push", upload: stream.id, ...common, signatures, stream: stream.id });
  await stream.pipe(streamOf(NAR));
  await worker.next("nar_committed");
}

async function signed({ secretKey }: KeyPair, path: string): Promise<string> {
  const narHashOf = { algorithm: "sha256", digest: new Uint8Array(narHash()) } as const;
  const facts = { storePath: path as StorePath, narHash: narHashOf, narSize: NAR.length, references: [] };
  return await sign(secretKey, fingerprint(facts));
}

async function signaturesOf(bench: HubBench, path: StorePath): Promise<string[]> {
  const rows = await bench.db
    .selectFrom("cache_path")
    .select("signatures")
    .where("store_path", "=", path.slice("/nix/store/".length))
    .execute();
  expect(rows.length).toBeGreaterThan(0);
  return rows[0]?.signatures ?? [];
}

async function registrationOf(bench: HubBench, { workerId }: FakeWorker): Promise<{ signing_key: string | null }> {
  return await bench.db
    .selectFrom("worker_registration")
    .select("signing_key")
    .where("worker_id", "=", workerId)
    .executeTakeFirstOrThrow();
}

function nameOf(signature: string): string {
  return signature.slice(0, signature.indexOf(":"));
}

function narHash(): Buffer {
  return createHash("sha256").update(NAR).digest();
}

function narOf(content: string): Uint8Array {
  const words = ["nix-archive-1", "(", "type", "regular", "contents", content, ")"];
  const parts = words.map((word) => {
    const bytes = Buffer.alloc(8 + Math.ceil(utf8(word).length / 8) * 8);
    bytes.writeUInt32LE(word.length);
    bytes.write(word, 8);
    return bytes;
  });
  return new Uint8Array(Buffer.concat(parts));
}
