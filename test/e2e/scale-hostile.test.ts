import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { utf8 } from "#core/lib/bytes.ts";
import { makeTextPath, type StorePath } from "#core/nix/store-path.ts";
import { encodeFrame } from "#core/protocol/frame.ts";
import { CONTROL_QUEUE_LENGTH_MAX, UNREAD_BYTES_MAX, WAITING_LENGTH_MAX } from "#core/protocol/limits.ts";
import { RawWorker } from "#test/hostile/raw-worker.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";
import { Api } from "./api.ts";
import { commitFlake } from "./flake.ts";
import { freePort } from "./gradient.ts";
import { type Service, startService } from "./process.ts";

const MIB = 2 ** 20;
/** Sockets that have not proved themselves: 32 an address. Each may be in the middle of a message of 1 MiB. */
const HANDSHAKES_BYTES_MAX = 32 * MIB;
/** What the limits of one session add up to, and what a server without work may grow to by itself. */
const GROWTH_BYTES_MAX =
  UNREAD_BYTES_MAX + WAITING_LENGTH_MAX + CONTROL_QUEUE_LENGTH_MAX + HANDSHAKES_BYTES_MAX + 128 * MIB;

/** For a derivation of 32 MiB: its pieces, the whole, its texts, and twice what the database is sent. */
const DERIVATION_GROWTH_BYTES_MAX = 240 * MIB;

let folder: TemporaryFolder;
let server: Service;
let api: Api;
let port: number;
let before: number;
/** The most that each attack had the server take. */
const peaks: Record<string, number> = {};
const registered: Record<"attacker" | "honest", { workerId: string; peer: string; token: string }> = {} as never;
let honest: RawWorker;
let attempts: { evaluation: string; build: string };
let output: StorePath;

beforeAll(async () => {
  folder = await withTemporaryFolder();
  port = await freePort();
  const base = `http://127.0.0.1:${port}`;
  server = startService("runtime/node/main.ts", {
    GRADIENT_BASE_PATH: join(folder.path, "server"),
    GRADIENT_PORT: String(port),
    GRADIENT_SERVE_URL: base,
    GRADIENT_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32",
  });
  await server.waitFor("the server is ready");
  api = new Api(base);
  for (const who of ["honest", "attacker"] as const) {
    await api.signUp(who);
    const described = { display_name: who, description: "" };
    await api.request("PUT", "/orgs", { name: who, ...described });
    await api.request("PUT", "/caches", { name: who, ...described, priority: 40, public: false });
    await api.request("POST", `/orgs/${who}/subscribe/${who}`, {});
    const workerId = randomUUID();
    const made = await api.request<{ peer_id: string; token: string }>("POST", `/orgs/${who}/workers`, {
      worker_id: workerId,
    });
    registered[who] = { workerId, peer: made.peer_id, token: made.token };
  }
  honest = new RawWorker(`ws://127.0.0.1:${port}/proto`);
  const { workerId, peer, token } = registered.honest;
  await honest.register(workerId, peer, token);
  await takeJobs();
  before = await residentBytes("VmRSS");
}, 60_000);

afterAll(async () => {
  honest?.[Symbol.dispose]();
  await server?.[Symbol.asyncDispose]();
  await folder?.[Symbol.asyncDispose]();
});

async function residentBytes(field: "VmRSS" | "VmHWM"): Promise<number> {
  const status = await readFile(`/proc/${server.pid}/status`, "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+)`).exec(status)?.[1]) * 1024;
}

async function attacker(): Promise<RawWorker> {
  const worker = new RawWorker(`ws://127.0.0.1:${port}/proto`);
  const { workerId, peer, token } = registered.attacker;
  await worker.register(workerId, peer, token);
  return worker;
}

/** The attacker's worker has an evaluation and, by a derivation that it reports itself, a build. */
async function takeJobs(): Promise<void> {
  using worker = await attacker();
  const described = { display_name: "site", description: "", wildcard: "packages.*" };
  const repository = await commitFlake(join(folder.path, "site"), { "flake.nix": "{ outputs = _: { }; }" }, "One");
  await api.request("PUT", "/projects/attacker", { name: "site", ...described, repository });
  await api.evaluate("attacker/site");
  await worker.send({ type: "request_job", kind: "evaluation", free: 1 });
  const evaluation = (await worker.next("assign_job")).attempt;
  output = `/nix/store/${"3".repeat(32)}-thing` as StorePath;
  const text = `Derive([("out","${output}","","")],[],[],"x86_64-linux","/bin/sh",[],[("name","thing")])`;
  const drv = await makeTextPath("thing.drv", utf8(text), []);
  await worker.send({
    type: "eval_batch",
    attempt: evaluation,
    sequence: 0,
    nodes: [{ drv_path: drv, size: text.length, pruned: false }],
    entry_points: [{ attribute: ["thing"], drv_path: drv }],
    content: { stream: 1, size: text.length },
  });
  await worker.send(encodeFrame({ stream: 1, offset: 0, end: true, aborted: false, body: utf8(text) }));
  expect((await worker.next("eval_batch_ack")).error).toBeNull();
  await worker.send({ type: "request_job", kind: "build", free: 1 });
  const build = (await worker.next("assign_job")).attempt;
  attempts = { evaluation, build };
}

/** One that has the jobs of `takeJobs` still. */
async function holder(): Promise<RawWorker> {
  const worker = new RawWorker(`ws://127.0.0.1:${port}/proto`);
  const { workerId, peer, token } = registered.attacker;
  await worker.register(workerId, peer, token, Object.values(attempts));
  return worker;
}

/**
 * Runs an attack. The server lives, answers, keeps the honest worker, and holds no more than its limits say, and
 * never more than `ownBytesMax` above what it had before this attack.
 */
async function survives(name: string, attack: () => Promise<void>, ownBytesMax = GROWTH_BYTES_MAX): Promise<void> {
  const resident = await residentBytes("VmRSS");
  await writeFile(`/proc/${server.pid}/clear_refs`, "5");
  let slowestMs = 0;
  let attacking = true;
  const statuses = new Set<number>();
  const asking = (async () => {
    while (attacking) {
      const began = performance.now();
      const answer = await fetch(`http://127.0.0.1:${port}/api/v1/health`).catch(() => null);
      statuses.add(answer?.status ?? 0);
      slowestMs = Math.max(slowestMs, performance.now() - began);
      await sleep(50);
    }
  })();
  try {
    await attack();
  } finally {
    attacking = false;
    await asking;
  }
  expect([...statuses]).toEqual([200]);
  peaks[name] = await residentBytes("VmHWM");
  if (process.env.GRADIENT_TEST_FIGURES) {
    const [base, own, peak] = [before, resident, peaks[name]].map((bytes) => Math.round(bytes / MIB));
    console.log(`${name}: from ${base}, ${own} to ${peak} MiB, slowest answer ${Math.round(slowestMs)} ms`);
  }
  expect(peaks[name] - before).toBeLessThan(GROWTH_BYTES_MAX);
  expect(peaks[name] - resident).toBeLessThan(ownBytesMax);
  expect(honest.closed).toBeNull();
}

const frame = (stream: number, offset: number, body: Uint8Array, end = false): Uint8Array =>
  encodeFrame({ stream, offset, end, aborted: false, body });

test("sockets that never finish their handshake, in any of its steps", async () => {
  await survives("half-open sockets", async () => {
    const half = Array.from({ length: 200 }, (_, i) => {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      socket.write(i % 2 ? "GET /proto HTTP/1.1\r\nHost: x\r\n" : "GET /pro");
      return socket;
    });
    const silent = Array.from({ length: 100 }, () => new RawWorker(`ws://127.0.0.1:${port}/proto`));
    await expect.poll(() => silent.filter(({ closed }) => closed?.includes("503")).length).toBeGreaterThan(50);
    for (const socket of half) socket.destroy();
    for (const worker of silent) worker[Symbol.dispose]();
  });
});

test("a message in pieces of one byte, and pings that nobody reads the answers of", async () => {
  await survives("pieces and pings", async () => {
    const pieces = await Promise.all(Array.from({ length: 16 }, () => upgraded()));
    for (const socket of pieces) {
      socket.write(Buffer.from([0x01, 0x81, 0, 0, 0, 0, 0x20]));
      const piece = Buffer.from([0x00, 0x81, 0, 0, 0, 0, 0x20]);
      socket.write(Buffer.concat(Array.from({ length: 200_000 }, () => piece)));
    }
    const pings = await upgraded();
    pings.pause();
    const ping = Buffer.concat([Buffer.from([0x89, 0x80 | 125, 0, 0, 0, 0]), Buffer.alloc(125)]);
    for (let i = 0; i < 200 && !pings.destroyed; i++) {
      if (!pings.write(Buffer.concat(Array.from({ length: 4_000 }, () => ping)))) await sleep(5);
    }
    await sleep(500);
    for (const socket of [...pieces, pings]) socket.destroy();
  });
});

test("every stream full, in frames of a few bytes", async () => {
  await survives("full streams", async () => {
    using worker = await holder();
    const info = { path: output, nar_hash: "0".repeat(64), nar_size: 1e12, references: [], deriver: null, ca: null };
    const body = new Uint8Array(16);
    for (let stream = 1; stream <= 250; stream++) {
      const push = { upload: stream, attempt: attempts.build, target: "output", compression: "none", stream } as const;
      await worker.send({ type: "nar_push", ...push, info });
      const size = stream <= 20 ? 65_536 / 4 : 65_536;
      const large = size === 65_536 ? new Uint8Array(size) : body;
      for (let offset = 0; offset < (large === body ? 100_000 : MIB); offset += large.length) {
        void worker.send(frame(stream, offset, large));
      }
      await worker.send({ type: "heartbeat" });
    }
    await sleep(500);
  });
});

test("a worker that asks without end and reads nothing", async () => {
  await survives("reads nothing", async () => {
    using worker = await holder();
    worker.socket.pause();
    const paths = Array.from({ length: 1_000 }, () => output);
    const hashes = paths.map(() => "3".repeat(32));
    for (let query = 0; query < 1_500 && worker.closed === null; query++) {
      await Promise.race([
        worker.send({ type: "cache_query", query, attempt: attempts.build, paths, hashes }),
        sleep(2_000),
      ]);
    }
    await sleep(500);
  });
});

test("floods of everything that needs no answer", async () => {
  await survives("floods", async () => {
    const flood: Parameters<RawWorker["send"]>[0][] = [
      { type: "heartbeat" },
      { type: "reauth_request" },
      { type: "request_job", kind: "build", free: 1e9 },
      { type: "job_update", attempt: attempts.build, phase: "building" },
      { type: "credit", stream: 1, offset: Number.MAX_SAFE_INTEGER },
      { type: "assign_job_response", attempt: randomUUID(), accepted: false },
    ];
    for (const message of flood) {
      using worker = await holder();
      for (let i = 0; i < 20_000 && worker.closed === null; i++) {
        const sent = worker.send(message);
        if (i % 100 === 0) await sent;
      }
    }
  });
});

test("derivations that take seconds and gigabytes to read", async () => {
  await survives(
    "large derivations",
    async () => {
      using worker = await holder();
      const escapes = "\\n".repeat(16 * MIB);
      const text = `Derive([("out","${output}","","")],[],[],"x86_64-linux","/bin/sh",["${escapes}"],[("name","a")])`;
      const aterm = utf8(text);
      const path = await makeTextPath("a.drv", aterm, []);
      await worker.send({
        type: "eval_batch",
        attempt: attempts.evaluation,
        sequence: 1,
        nodes: [{ drv_path: path, size: aterm.length, pruned: false }],
        entry_points: [],
        content: { stream: 1, size: aterm.length },
      });
      let granted = MIB;
      for (let offset = 0; offset < aterm.length; offset += 65_536) {
        const body = aterm.subarray(offset, offset + 65_536);
        while (offset + body.length > granted) {
          granted = (await worker.next("credit", ({ stream }) => stream === 1)).offset;
        }
        await worker.send(frame(1, offset, body, offset + body.length === aterm.length));
      }
      expect((await worker.next("eval_batch_ack")).error).toBeNull();
    },
    DERIVATION_GROWTH_BYTES_MAX,
  );
});

async function upgraded() {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  const headers = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
  const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
  socket.write(["GET /proto HTTP/1.1", "Host: x", ...headers, key, "", ""].join("\r\n"));
  await new Promise((resolve) => socket.once("data", resolve));
  return socket;
}
