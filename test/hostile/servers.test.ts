import { createHash, randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocketServer } from "ws";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { streamOf } from "#core/lib/streams.ts";
import { parseDerivation } from "#core/nix/derivation.ts";
import { inputAddressedPaths } from "#core/nix/derivation-hash.ts";
import { makeTextPath, type StorePath } from "#core/nix/store-path.ts";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { WebSocketAdapter } from "#runtime/node/hub/websocket.ts";
import { Random } from "#test/sim/random.ts";
import { FakeServer, ORGANIZATION } from "#test/support/fake-server.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { type Service, startService } from "../e2e/process.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";
import { narStart, nested, tree } from "./forged-nars.ts";
import { harass } from "./harass.ts";

type Of<T extends WorkerMessage["type"]> = Extract<WorkerMessage, { type: T }>;
/** What a hostile server sends when it is asked for a path. */
type Forgery = (path: StorePath) => {
  readonly info?: object;
  readonly compression?: string;
  readonly body: Uint8Array | "endless";
};

const SEEDS = Number(process.env.GRADIENT_FUZZ_SEEDS ?? 20);
const FIRST = Number(process.env.GRADIENT_FUZZ_FIRST ?? 1);
const MIB = 2 ** 20;
const nix = nixAvailable();

describe.skipIf(!nix.ok)(`a worker whose server means ill (${nix.ok ? nix.version : nix.reason})`, () => {
  let folder: TemporaryFolder;
  let daemon: NixDaemon;
  let worker: Service;
  let startWorker: () => Service;
  let listener: WebSocketServer;
  const sessions: FakeServer[] = [];
  let attempts = 0;

  beforeAll(async () => {
    folder = await withTemporaryFolder();
    daemon = await withNixDaemon();
    listener = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });
    listener.on("connection", (socket) => sessions.push(new FakeServer(new WebSocketAdapter(socket))));
    await new Promise((resolve) => listener.once("listening", resolve));
    const { port } = listener.address() as { port: number };
    // What lies beside the worker's own folder must stay as it is.
    await mkdir(join(folder.path, "outside"));
    await writeFile(join(folder.path, "outside", "kept"), "as it was");
    await writeFile(join(folder.path, "peers"), `${ORGANIZATION}:secret\n`);
    startWorker = () =>
      startService("worker/main.ts", {
        NIX_REMOTE: daemon.storeUrl,
        NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
        GRADIENT_WORKER_SERVER_URL: `ws://127.0.0.1:${port}/proto`,
        GRADIENT_WORKER_DATA_DIR: join(folder.path, "worker"),
        GRADIENT_WORKER_ID: randomUUID(),
        GRADIENT_WORKER_PEERS_FILE: join(folder.path, "peers"),
        GRADIENT_WORKER_GCROOTS_DIR: "",
        GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
        GRADIENT_WORKER_CAPABILITY_FETCH: "true",
        GRADIENT_WORKER_CAPABILITY_EVAL: "true",
        GRADIENT_WORKER_CAPABILITY_BUILD: "true",
        GRADIENT_MAX_CONCURRENT_BUILDS: "8",
      });
    worker = startWorker();
  }, 60_000);

  afterAll(async () => {
    for (const { connection } of sessions) connection.close(1001, "over");
    await worker?.[Symbol.asyncDispose]();
    listener?.close();
    await daemon?.[Symbol.asyncDispose]();
    await folder?.[Symbol.asyncDispose]();
  });

  /** The newest session, through its handshake. */
  async function session(): Promise<FakeServer> {
    const deadline = performance.now() + 20_000;
    while (sessions.at(-1)?.closed !== null) {
      if (performance.now() > deadline) throw new Error(`the worker does not come: ${worker.output().slice(-2_000)}`);
      await sleep(10);
    }
    const server = sessions.at(-1) as FakeServer;
    if (server.count("worker_capabilities") === 0) await server.register({ held: {} });
    return server;
  }

  function newAttempt(): string {
    return `01890000-0000-7000-8000-${String(++attempts).padStart(12, "0")}`;
  }

  async function residentBytes(): Promise<number> {
    const status = await readFile(`/proc/${worker.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  }

  /** Nothing but the worker's own folder has changed, and its process is the same. */
  async function expectUnharmed(): Promise<void> {
    expect((await readdir(folder.path)).sort()).toEqual(["outside", "peers", "worker"]);
    expect(await readdir(join(folder.path, "outside"))).toEqual(["kept"]);
    expect(await readFile(join(folder.path, "outside", "kept"), "utf8")).toBe("as it was");
    expect(await Promise.race([worker.ended, sleep(0, "alive")])).toBe("alive");
  }

  interface Assigned {
    readonly aterm: Uint8Array;
    readonly drvPath: StorePath;
    readonly inputs?: readonly StorePath[];
  }

  /** Gives the worker a build, and answers what it asks for with the forgery. Resolves with its result. */
  async function assign({ aterm, drvPath, inputs = [] }: Assigned, forge?: Forgery) {
    const server = await session();
    const attempt = newAttempt();
    const stream = server.connection.openStream();
    server.onMessage = (message) => {
      if (message.type === "cache_query") answerQuery(server, message, forge);
      if (message.type === "nar_request") void sendNar(server, message, forge);
      if (message.type === "log_open") server.connection.refuseStream(message.stream);
      if (message.type === "job_result") server.send({ type: "job_result_ack", attempt: message.attempt });
    };
    server.send({
      type: "assign_job",
      attempt,
      job: {
        kind: "build",
        build: newAttempt(),
        organization: ORGANIZATION,
        drv_path: drvPath,
        drv: { stream: stream.id, size: aterm.length },
        inputs: [...inputs],
        timeout_ms: 0,
        max_silent_ms: 0,
      },
    });
    await stream.pipe(streamOf(aterm)).catch(() => {});
    const found = () =>
      server.received.find(
        (message) =>
          (message.type === "job_result" || (message.type === "assign_job_response" && !message.accepted)) &&
          message.attempt === attempt,
      ) as Of<"job_result"> | Of<"assign_job_response"> | undefined;
    await expect.poll(() => found() !== undefined || server.closed !== null, { timeout: 20_000 }).toBe(true);
    const answer = found();
    if (!answer) return `session: ${server.closed}`;
    return answer.type === "job_result" ? (answer.result.failure?.message ?? "") : `refused: ${answer.reason}`;
  }

  function infoOf(path: StorePath, forge?: Forgery) {
    const { body, info } = forge?.(path) ?? { body: new Uint8Array() };
    const bytes = body === "endless" ? new Uint8Array() : body;
    const nar_hash = toHex(createHash("sha256").update(bytes).digest());
    return { path, nar_hash, nar_size: bytes.length, references: [], deriver: null, ca: null, ...info };
  }

  function answerQuery(server: FakeServer, { query, paths }: Of<"cache_query">, forge?: Forgery): void {
    server.send({ type: "cache_status", query, present: paths.map((path) => infoOf(path, forge)) });
  }

  async function sendNar(server: FakeServer, { request, path }: Of<"nar_request">, forge?: Forgery): Promise<void> {
    const { body = new Uint8Array(), compression = "none" } = forge?.(path) ?? {};
    const stream = server.connection.openStream();
    const offer = { compression, file_size: null, stream: stream.id };
    server.send({ type: "nar_offer", request, info: infoOf(path, forge), ...offer });
    try {
      if (body !== "endless") return await stream.pipe(streamOf(body));
      await stream.write(narStart(2 ** 40));
      for (;;) await stream.write(new Uint8Array(64 * 1024));
    } catch {
      // The worker has had enough.
    }
  }

  const OUTPUT = `/nix/store/${"4".repeat(32)}-thing`;
  /** With the output path that follows from it. */
  async function derivation(extra = ""): Promise<Uint8Array<ArrayBuffer>> {
    const written = (output: string) =>
      utf8(`Derive([("out","${output}","","")],[],[${extra}],"x86_64-linux","/bin/sh",["-c",":"],[("name","thing")])`);
    return written((await inputAddressedPaths(parseDerivation(written(OUTPUT)), "thing")).get("out") ?? OUTPUT);
  }
  const INPUT = `/nix/store/${"5".repeat(32)}-input` as StorePath;

  test("derivations that are not what their path names are refused with words", async () => {
    const good = await derivation();
    const drvPath = await makeTextPath("thing.drv", good, []);
    const bad: readonly [Assigned, RegExp][] = [
      [{ aterm: utf8(new TextDecoder().decode(good).replace('":"', '"rm -rf /"')), drvPath }, /path|match|bytes/],
      [{ aterm: good.subarray(0, 40), drvPath }, /derivation/],
      [{ aterm: new Uint8Array(), drvPath }, /derivation/],
    ];
    for (const [assigned, words] of bad) expect(await assign(assigned)).toMatch(words);
    await expectUnharmed();
  });

  test("inputs that are not what was announced are never imported, and never written anywhere else", async () => {
    const aterm = await derivation(`"${INPUT}"`);
    const drvPath = await makeTextPath("thing.drv", aterm, [INPUT]);
    const wrong = { nar_hash: "0".repeat(64) };
    const forgeries: readonly Forgery[] = [
      () => ({ body: tree(["file", "x"]), info: wrong }),
      () => ({ body: tree(["file", "x"]), info: { nar_size: 1 } }),
      () => ({ body: tree(["../../outside/evil", "x"]) }),
      () => ({ body: tree(["..", "x"]) }),
      () => ({ body: tree(["a/b", "x"]) }),
      () => ({ body: tree(["/etc/evil", "x"]) }),
      () => ({ body: tree(["", "x"]) }),
      () => ({ body: tree(["nul\0", "x"]) }),
      () => ({ body: tree(["b", "x"], ["a", "x"]) }),
      () => ({ body: tree(["a", "x"], ["a", "x"]) }),
      () => ({ body: utf8("no NAR at all") }),
      () => ({
        body: zstdCompressSync(new Uint8Array(64 * MIB)),
        compression: "zstd",
        info: { ...wrong, nar_size: 100 },
      }),
      () => ({ body: tree(["file", "x"]), compression: "xz" }),
      () => ({ body: tree(["file", "x"]), compression: "../../evil" }),
      () => ({ body: "endless", info: { ...wrong, nar_size: 100 } }),
      () => ({ body: tree(["file", "x"]), info: { path: `/nix/store/${"6".repeat(32)}-another` } }),
    ];
    using connection = await DaemonConnection.open(daemon.socketPath);
    for (const [number, forge] of forgeries.entries()) {
      const words = await assign({ aterm, drvPath, inputs: [INPUT] }, forge);
      expect([number, await connection.queryValidPaths([INPUT])]).toEqual([number, new Set()]);
      expect([number, words]).toEqual([number, expect.stringMatching(/input|session/)]);
    }
    expect(await readdir(join(daemon.root, "nix/store"))).not.toContain(`${"6".repeat(32)}-another`);

    // Nothing forbids folders in folders: whatever becomes of it, the worker and its daemon live.
    await assign({ aterm, drvPath, inputs: [INPUT] }, () => ({ body: nested(5_000) }));
    expect(await connection.queryValidPaths([drvPath])).toEqual(new Set());
    await expectUnharmed();
    expect(await residentBytes()).toBeLessThan(400 * MIB);
  });

  test("repositories that are commands or somebody's folders are refused with words", async () => {
    const marker = join(folder.path, "outside", "evil");
    const repositories = [
      `--upload-pack=touch ${marker}`,
      `ext::sh -c touch% ${marker}`,
      `file://${folder.path}/outside`,
      `${folder.path}/outside`,
      `git@-oProxyCommand=touch${marker}:x`,
      `ssh://-oProxyCommand=touch ${marker}/x`,
      `https://127.0.0.1:1/$(touch ${marker})`,
      "",
      "\0",
    ];
    for (const repository of repositories) {
      const server = await session();
      server.onMessage = (message) => {
        if (message.type === "job_result") server.send({ type: "job_result_ack", attempt: message.attempt });
      };
      const attempt = newAttempt();
      const limits = { timeout_ms: 20_000, attributes_max: 10, derivations_max: 10, messages_max: 10 };
      const input = { part: "whole" as const, trusted: true, overrides: [], source: null, ssh_key: null };
      const what = { repository, commit: "0".repeat(40), wildcard: "packages.*" };
      const job: EvaluationJob = {
        kind: "evaluation",
        evaluation: attempt,
        organization: ORGANIZATION,
        ...limits,
        ...what,
        ...input,
      };
      server.send({ type: "assign_job", attempt, job });
      const ended = () => server.received.find((m) => m.type === "job_result" && m.attempt === attempt);
      await expect.poll(ended, { timeout: 20_000 }).toBeDefined();
      const { result } = ended() as Of<"job_result">;
      expect([repository, result.status, result.failure?.message]).toEqual([
        repository,
        "failed",
        expect.stringMatching(/.{10}/),
      ]);
      await expectUnharmed();
    }
  }, 120_000);

  test("whatever a server says, and in whatever order, the worker comes back", async () => {
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
      const server = await session();
      server.onMessage = () => {};
      await harass(server, new Random(seed), [newAttempt(), newAttempt()]).catch((error: unknown) => {
        throw new Error(`seed ${seed}`, { cause: error });
      });
      server.connection.close(1001, "enough");
      await expectUnharmed();
      // After sessions that ended at once it waits longer and longer. It ends as it should when it is asked to.
      for (let waited = 0; sessions.at(-1) === server && waited < 600; waited += 20) await sleep(20);
      if (sessions.at(-1) === server) {
        expect(await worker.stop()).toBe(0);
        worker = startWorker();
      }
    }
    // What it is left with is a worker that works.
    const aterm = await derivation();
    expect(await assign({ aterm: aterm.subarray(1), drvPath: await makeTextPath("thing.drv", aterm, []) })).toMatch(
      /derivation/,
    );
    expect(await residentBytes()).toBeLessThan(400 * MIB);
  }, 600_000);
});
