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
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { fileNar } from "#test/cache/support.ts";
import type { Random } from "#test/sim/random.ts";
import { CAPABILITIES } from "#test/support/fake-worker.ts";
import { HostileMessages, type HostileOptions } from "./hostile-messages.ts";
import { damage } from "./mutate.ts";

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
  readonly #words: HostileMessages;
  readonly #messages: ServerMessage[] = [];

  constructor(socket: Socket, options: HostileOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#random = options.random;
    this.#words = new HostileMessages(options);
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
    this.#send(this.#words.describe(foreign.ids.slice(0, random.below(foreign.ids.length + 1))));
    if (!(await this.#heard("attempts"))) return;
    this.#send({ type: "request_job", kind: "build", free: 4 });
    this.#send({ type: "request_job", kind: "evaluation", free: 4 });
    await this.#heard("assign_job");
  }

  async #step(): Promise<void> {
    const random = this.#random;
    const action = random.weighted<() => void | Promise<void>>([
      [30, async () => this.#send(await this.#words.message())],
      [20, async () => this.#sendRaw(this.#words.mutated(await this.#words.message()))],
      [0.3, async () => this.#sendRaw(damage(random, JSON.stringify(await this.#words.message())))],
      [12, () => this.#frames()],
      [8, () => this.#upload()],
      [6, () => this.#batch()],
      [5, () => this.#flood()],
      [0.3, () => this.#sendRaw(random.bytes(new Uint8Array(random.below(80_000))))],
    ]);
    await action();
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
    const stream = this.#words.streamId(true);
    this.#send({
      type: "nar_push",
      upload: random.pick([this.#words.next(), 1]),
      attempt: this.#words.attempt(),
      target: random.pick(["source", "output"]),
      info: {
        path: this.#words.path(),
        nar_hash: toHex(new Uint8Array(hash)),
        nar_size: random.pick([nar.length, nar.length, 0, 2 ** 53 - 1]),
        references: random.pick([[], [this.#words.path()]]),
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
    const stream = this.#words.streamId(true);
    this.#send({
      type: "eval_batch",
      attempt: this.#words.attempt(),
      sequence: random.pick([this.#words.next(), 0]),
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
    const stream = random.chance(0.05) ? this.#words.streamId() : 2 ** 31 + random.below(100);
    this.#frame({ stream, offset, end: random.chance(0.2), aborted: random.chance(0.1), body });
  }

  async #flood(): Promise<void> {
    const message = JSON.stringify(await this.#words.message());
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
    if (message.type === "assign_job") this.#words.held.push({ id: message.attempt, kind: message.job.kind });
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
}
