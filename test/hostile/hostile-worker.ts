import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { zstdCompressSync } from "node:zlib";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { makeTextPath } from "#core/nix/store-path.ts";
import { encodeFrame } from "#core/protocol/frame.ts";
import { PROTOCOL_VERSION } from "#core/protocol/limits.ts";
import type { ServerMessage } from "#core/protocol/server-messages.ts";
import type { Socket } from "#core/protocol/socket.ts";
import { parseWorkerMessage, type WorkerMessage } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import type { Random } from "#test/sim/random.ts";
import { CAPABILITIES } from "#test/support/fake-worker.ts";
import { damage, mutate } from "./mutate.ts";

type Of<T extends WorkerMessage["type"]> = Extract<WorkerMessage, { type: T }>;

export interface HostileOptions {
  readonly random: Random;
  readonly workerId: string;
  readonly organizationId: string;
  readonly token: string;
  /** Ids and store paths of others, which it names wherever there is room for one. */
  readonly foreign: { readonly ids: readonly string[]; readonly paths: readonly StorePath[] };
}

interface Held {
  readonly id: string;
  readonly kind: "evaluation" | "build";
}

const ARCHITECTURE = { architectures: ["x86_64-linux"], system_features: [], max_concurrent_builds: 4 };

/**
 * A worker that one organization has let in and that means ill. What it says is made of valid messages, some of them
 * changed, in an order that only its seed knows.
 */
export class HostileWorker {
  /** All that it was ever sent, as text. */
  readonly received: string[] = [];
  closed: string | null = null;
  readonly #socket: Socket;
  readonly #options: HostileOptions;
  readonly #random: Random;
  readonly #messages: ServerMessage[] = [];
  readonly #held: Held[] = [];
  #number = 1;
  #stream = 1;

  constructor(socket: Socket, options: HostileOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#random = options.random;
    socket.onMessage = (data) => this.#receive(data);
    socket.onClose = (reason) => {
      this.closed = reason;
    };
  }

  /** A whole session of so many steps, or fewer when the server has had enough. */
  async run(steps: number): Promise<void> {
    await this.#handshake();
    for (let i = 0; i < steps && this.closed === null; i++) {
      await this.#step();
      if (this.#random.chance(0.3)) await sleep(this.#random.below(4));
    }
    await sleep(this.#random.below(20));
    if (this.closed === null) this.#socket.close(1000, "done");
  }

  async #handshake(): Promise<void> {
    const { workerId, organizationId, token, foreign } = this.#options;
    const random = this.#random;
    if (random.chance(0.1)) await this.#step();
    const capabilities = { ...CAPABILITIES, sign: random.chance(0.5) };
    const version = random.chance(0.05) ? random.pick([0, PROTOCOL_VERSION + 1, 2 ** 53 - 1]) : PROTOCOL_VERSION;
    this.#send({ type: "init_connection", version, worker_id: workerId, capabilities });
    if (!(await this.#heard("auth_challenge"))) return;
    if (random.chance(0.1)) await this.#step();
    const others = foreign.ids.map((peer) => ({ peer, token }));
    this.#send({ type: "auth_response", tokens: [{ peer: organizationId, token }, ...others] });
    if (!(await this.#heard("init_ack"))) return;
    if (random.chance(0.1)) await this.#step();
    this.#send(this.#describe(foreign.ids.slice(0, random.below(foreign.ids.length + 1))));
    if (!(await this.#heard("attempts"))) return;
    this.#send({ type: "request_job", kind: "build", free: 4 });
    this.#send({ type: "request_job", kind: "evaluation", free: 4 });
    await this.#heard("assign_job");
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const action = random.weighted<() => void | Promise<void>>([
      [30, async () => this.#send(await this.#message())],
      [20, async () => this.#sendRaw(this.#mutated(await this.#message()))],
      [0.3, async () => this.#sendRaw(damage(random, JSON.stringify(await this.#message())))],
      [12, () => this.#frames()],
      [8, () => this.#upload()],
      [6, () => this.#batch()],
      [5, () => this.#flood()],
      [0.3, () => this.#sendRaw(random.bytes(new Uint8Array(random.below(80_000))))],
    ]);
    await action();
  }

  /** Changed, and mostly such that it still is a message: what is none ends the session. */
  #mutated(message: WorkerMessage): string {
    for (let tries = 0; tries < 20; tries++) {
      const mutated = mutate(this.#random, message);
      if (this.#random.chance(0.001) || isMessage(mutated)) return JSON.stringify(mutated);
    }
    return JSON.stringify(message);
  }

  async #message(): Promise<WorkerMessage> {
    const random = this.#random;
    const attempt = this.#attempt();
    const paths = Array.from({ length: random.pick([0, 1, 3, 1_000]) }, () => this.#path());
    const made: readonly (() => WorkerMessage)[] = [
      () => ({ type: "request_job", kind: random.pick(["build", "evaluation"]), free: random.pick([0, 1, 1e9]) }),
      () => ({ type: "assign_job_response", attempt, accepted: random.chance(0.7), reason: "no" }),
      () => ({ type: "job_update", attempt, phase: random.pick(["fetching", "building", "evaluating_flake"]) }),
      () => this.#evaluationMessage(attempt),
      () => ({
        type: "cache_query",
        query: this.#next(),
        attempt,
        paths,
        hashes: paths.map((path) => path.slice(11, 43)),
      }),
      () => ({ type: "nar_request", request: this.#next(), attempt, path: this.#path() }),
      () => this.#resumed(attempt),
      () => ({
        type: "query_derivations",
        query: this.#next(),
        attempt,
        derivations: paths.map((path) => ({ drv_path: path, outputs: [path, ...paths.slice(0, 3)] })),
      }),
      () => ({ type: "log_open", attempt, offset: random.chance(0.03) ? 2 ** 40 : 0, stream: this.#streamId(true) }),
      () => this.#result(attempt),
      () => ({ type: "credit", stream: this.#streamId(), offset: random.pick([0, 1, 2 ** 20, 2 ** 53 - 1]) }),
      () => ({ type: "stream_stop", stream: this.#streamId() }),
      () => ({ type: "heartbeat" }),
      () => ({ type: "reauth_request" }),
      () => ({ ...this.#describe([]), attempts: null }),
      () => ({
        type: "worker_metrics",
        cpu_usage_pct: 100,
        ram_free_mb: random.pick([0, 2 ** 53 - 1]),
        disk_speed_mbps: 1e308,
        network_speed_mbps: null,
      }),
      () => ({ type: "auth_response", tokens: [{ peer: this.#id(), token: "x" }] }),
      () => ({ type: "draining" }),
    ];
    const rare = made.length - 2;
    return (made[random.chance(0.004) ? rare + random.below(2) : random.below(rare)] as () => WorkerMessage)();
  }

  #evaluationMessage(attempt: string): Of<"eval_message"> {
    const random = this.#random;
    const attribute = random.pick<string[] | null>([null, [], ["a", "\u0000", "\ud800"], Array(64).fill("x")]);
    const message = random.pick(["hello", "\0", "\ud800", "m".repeat(65_536)]);
    const numbers = { sequence: random.pick([this.#next(), 0, 2 ** 53 - 1]), level: "error" as const };
    return { type: "eval_message", attempt, message, source: "evaluator", attribute, ...numbers };
  }

  #resumed(attempt: string): Of<"nar_request"> {
    const resume = { file: "0".repeat(64), offset: 2 ** 53 - 1 };
    return { type: "nar_request", request: this.#next(), attempt, path: this.#path(), resume };
  }

  #result(attempt: string): Of<"job_result"> {
    const isEvaluation = this.#held.find(({ id }) => id === attempt)?.kind === "evaluation";
    if (isEvaluation === this.#random.chance(0.02)) return this.#buildResult(attempt);
    const source = { reference: "path:/etc", wrapped: false, paths: [this.#path()] };
    const result = { kind: "evaluation", status: "completed", failure: null, source } as const;
    return { type: "job_result", attempt, result };
  }

  #buildResult(attempt: string): Of<"job_result"> {
    const random = this.#random;
    const huge = 2 ** 53 - 1;
    const path = `${this.#path()}/../../etc/passwd`;
    const product = { output: "out", type: "file", subtype: "", name: "a\0b/../..", path, size: huge };
    const missing = [this.#path(), this.#path()];
    const failure = {
      class: random.pick(["permanent", "transient", "inputs_unavailable"] as const),
      message: "no\0",
      missing,
    };
    const failed = random.chance(0.5);
    return {
      type: "job_result",
      attempt,
      uploads: random.pick([[], [1], [random.below(this.#number + 1)], [2 ** 53 - 1]]),
      result: {
        kind: "build",
        status: failed ? "failed" : random.pick(["built", "already_valid"]),
        outputs: [{ name: "out", path: this.#path() }],
        failure: failed ? failure : null,
        build_ms: random.pick([0, 365 * 24 * 3_600_000]),
        metrics: {
          cpu_user_ms: huge,
          cpu_system_ms: huge,
          peak_memory_bytes: huge,
          io_read_bytes: huge,
          io_write_bytes: null,
        },
        products: random.chance(0.3) ? [product] : [],
      },
    };
  }

  #describe(attempts: readonly string[]): Of<"worker_capabilities"> {
    const random = this.#random;
    return {
      type: "worker_capabilities",
      groups: random.pick([[ARCHITECTURE], [ARCHITECTURE], Array(64).fill(ARCHITECTURE)]),
      max_concurrent_evaluations: random.pick([1, 2 ** 53 - 1]),
      cpu_count: 2 ** 53 - 1,
      ram_total_mb: 0,
      signing_key: random.pick(["evil:AAAA", `key-${random.below(1e9)}:${"A".repeat(43)}=`]),
      attempts: [...attempts],
    };
  }

  /** A NAR whose announcement and bytes may be anything. */
  async #upload(): Promise<void> {
    const random = this.#random;
    const content = await fileNar(utf8(random.pick(["small", "s".repeat(100_000), `evil ${random.below(1e9)}`])));
    const nar = random.pick([content, content, content.subarray(0, -8), random.bytes(new Uint8Array(200))]);
    const bomb = () => zstdCompressSync(new Uint8Array(8 * 2 ** 20));
    const compression = random.pick(["none", "zstd"] as const);
    const body = compression === "none" ? nar : random.pick([() => zstdCompressSync(nar), bomb, () => nar])();
    const hash = random.chance(0.7) ? createHash("sha256").update(nar).digest() : random.bytes(new Uint8Array(32));
    const stream = this.#streamId(true);
    this.#send({
      type: "nar_push",
      upload: random.pick([this.#next(), 1]),
      attempt: this.#attempt(),
      target: random.pick(["source", "output"]),
      info: {
        path: this.#path(),
        nar_hash: toHex(new Uint8Array(hash)),
        nar_size: random.pick([nar.length, nar.length, 0, 2 ** 53 - 1]),
        references: random.pick([[], [this.#path()]]),
        deriver: null,
        ca: random.pick([null, "fixed:r:sha256:nothing"]),
      },
      signatures: random.pick([[], ["evil:AAAA"]]),
      compression,
      stream,
      ...(random.chance(0.5) && { with_result: true }),
    });
    this.#body(stream, body);
  }

  /** Derivations: whole ones, wrong paths, cycles, what others have, and what is none. */
  async #batch(): Promise<void> {
    const random = this.#random;
    const foreign = random.pick(this.#options.foreign.paths);
    const name = `evil-${random.below(1e9)}`;
    const inputs = random.pick([
      "",
      `("${foreign}.drv",["out"])`,
      `("/nix/store/${"0".repeat(32)}-cycle.drv",["out"])`,
    ]);
    const output = random.pick([`/nix/store/${"1".repeat(32)}-${name}`, foreign]);
    const env = random.pick(['("name","x")', `("name","${"n".repeat(300)}")`, '("__json","[[]")', '("name","a\0b")']);
    const text = `Derive([("out","${output}","","")],[${inputs}],[],"x86_64-linux","/bin/sh",[],[${env}])`;
    const aterm = random.pick([utf8(text), utf8(text), utf8(text.slice(0, -1)), new Uint8Array()]);
    const references = /"(\/nix\/store\/[^"]+\.drv)"/.exec(inputs)?.[1];
    const path = await makeTextPath(`${name}.drv`, aterm, references ? [references as StorePath] : []);
    const node = { drv_path: random.pick([path, path, foreign]), size: aterm.length, pruned: random.chance(0.3) };
    const stream = this.#streamId(true);
    this.#send({
      type: "eval_batch",
      attempt: this.#attempt(),
      sequence: random.pick([this.#next(), 0]),
      nodes: random.pick([[node], [node, node], []]),
      entry_points: [{ attribute: ["a"], drv_path: random.pick([path, foreign]) }],
      content: { stream, size: random.pick([aterm.length, aterm.length, 2 ** 53 - 1, 0]) },
    });
    this.#body(stream, aterm, 0.01);
  }

  /** Frames of a stream, in order or not. */
  #body(stream: number, body: Uint8Array, abortChance = 0.1): void {
    const random = this.#random;
    const size = random.pick([65_536, 65_536, 1_000]);
    const isWrong = random.chance(0.01);
    for (let offset = 0; offset < body.length; offset += size) {
      const part = body.subarray(offset, offset + size);
      this.#frame({ stream, offset: isWrong ? offset + 1 : offset, end: false, aborted: false, body: part });
    }
    const aborted = random.chance(abortChance);
    if (random.chance(0.9)) {
      this.#frame({ stream, offset: body.length, end: true, aborted, body: new Uint8Array() });
    }
  }

  #frames(): void {
    const random = this.#random;
    const body = random.bytes(new Uint8Array(random.pick([0, 1, 100, 65_536])));
    const offset = random.pick([0, 0, 100, 2 ** 53 - 1]);
    const stream = random.chance(0.05) ? this.#streamId() : 2 ** 31 + random.below(100);
    this.#frame({ stream, offset, end: random.chance(0.2), aborted: random.chance(0.1), body });
  }

  async #flood(): Promise<void> {
    const message = JSON.stringify(await this.#message());
    for (let i = this.#random.pick([50, 500]); i > 0; i--) this.#sendRaw(message);
  }

  #frame(frame: Parameters<typeof encodeFrame>[0]): void {
    this.#sendRaw(encodeFrame(frame));
  }

  #send(message: WorkerMessage): void {
    this.#sendRaw(JSON.stringify(message));
  }

  #sendRaw(data: string | Uint8Array): void {
    this.#socket.send(data).catch(() => {});
  }

  #receive(data: string | Uint8Array): void {
    if (typeof data !== "string") {
      this.received.push(Buffer.from(data).toString("latin1"));
      return;
    }
    this.received.push(data);
    const message = JSON.parse(data) as ServerMessage;
    this.#messages.push(message);
    if (message.type === "assign_job") this.#held.push({ id: message.attempt, kind: message.job.kind });
    if (message.type === "nar_offer" && this.#random.chance(0.5)) {
      this.#send({ type: "credit", stream: message.stream, offset: 2 ** 53 - 1 });
    }
  }

  async #heard(type: ServerMessage["type"], timeoutMs = 300): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (!this.#messages.some((message) => message.type === type)) {
      if (this.closed !== null || performance.now() > deadline) return false;
      await sleep(2);
    }
    return true;
  }

  #next(): number {
    return this.#number++;
  }

  #streamId(fresh = false): number {
    if (fresh && this.#random.chance(0.995)) return this.#stream++;
    return this.#random.pick([this.#stream++, Math.max(1, this.#stream - 2), 1, 2 ** 32 - 1]);
  }

  /** One that it holds, mostly. */
  #attempt(): string {
    const random = this.#random;
    if (this.#held.length > 0 && random.chance(0.7)) return random.pick(this.#held).id;
    return this.#id();
  }

  #id(): string {
    const { foreign, organizationId, workerId } = this.#options;
    return this.#random.pick([...foreign.ids, organizationId, workerId]);
  }

  #path(): StorePath {
    const own = `/nix/store/${"2".repeat(32)}-${this.#random.pick(["a", "b", "c"])}` as StorePath;
    return this.#random.pick([...this.#options.foreign.paths, own]);
  }
}

function isMessage(value: unknown): boolean {
  try {
    parseWorkerMessage(JSON.parse(JSON.stringify(value)));
    return true;
  } catch {
    return false;
  }
}
