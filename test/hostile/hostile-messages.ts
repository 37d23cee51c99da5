import type { StorePath } from "#core/nix/store-path.ts";
import { parseWorkerMessage, type WorkerMessage } from "#core/protocol/worker-messages.ts";
import type { Random } from "#test/sim/random.ts";
import { mutate } from "./mutate.ts";

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

/** What a hostile worker says of itself, of attempts and of paths: messages that fit their schema, and mean ill. */
export class HostileMessages {
  /** Attempts that the worker was given. */
  readonly held: Held[] = [];
  readonly #options: HostileOptions;
  readonly #random: Random;
  #number = 1;
  #stream = 1;

  constructor(options: HostileOptions) {
    this.#options = options;
    this.#random = options.random;
  }

  /** Changed, and mostly such that it still is a message: what is none ends the session. */
  mutated(message: WorkerMessage): string {
    for (let tries = 0; tries < 20; tries++) {
      const mutated = mutate(this.#random, message);
      if (this.#random.chance(0.001) || isMessage(mutated)) return JSON.stringify(mutated);
    }
    return JSON.stringify(message);
  }

  async message(): Promise<WorkerMessage> {
    const random = this.#random;
    const attempt = this.attempt();
    const paths = Array.from({ length: random.pick([0, 1, 3, 1_000]) }, () => this.path());
    const made: readonly (() => WorkerMessage)[] = [
      () => ({ type: "request_job", kind: random.pick(["build", "evaluation"]), free: random.pick([0, 1, 1e9]) }),
      () => ({ type: "assign_job_response", attempt, accepted: random.chance(0.7), reason: "no" }),
      () => ({ type: "job_update", attempt, phase: random.pick(["fetching", "building", "evaluating_flake"]) }),
      () => this.#evaluationMessage(attempt),
      () => ({
        type: "cache_query",
        query: this.next(),
        attempt,
        paths,
        hashes: paths.map((path) => path.slice(11, 43)),
      }),
      () => ({ type: "nar_request", request: this.next(), attempt, path: this.path() }),
      () => this.#resumed(attempt),
      () => ({
        type: "query_derivations",
        query: this.next(),
        attempt,
        derivations: paths.map((path) => ({ drv_path: path, outputs: [path, ...paths.slice(0, 3)] })),
      }),
      () => ({ type: "log_open", attempt, offset: random.chance(0.03) ? 2 ** 40 : 0, stream: this.streamId(true) }),
      () => this.#result(attempt),
      () => ({ type: "credit", stream: this.streamId(), offset: random.pick([0, 1, 2 ** 20, 2 ** 53 - 1]) }),
      () => ({ type: "stream_stop", stream: this.streamId() }),
      () => ({ type: "heartbeat" }),
      () => ({ type: "reauth_request" }),
      () => ({ ...this.describe([]), attempts: null }),
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
    const numbers = { sequence: random.pick([this.next(), 0, 2 ** 53 - 1]), level: "error" as const };
    return { type: "eval_message", attempt, message, source: "evaluator", attribute, ...numbers };
  }

  #resumed(attempt: string): Of<"nar_request"> {
    const resume = { file: "0".repeat(64), offset: 2 ** 53 - 1 };
    return { type: "nar_request", request: this.next(), attempt, path: this.path(), resume };
  }

  #result(attempt: string): Of<"job_result"> {
    const isEvaluation = this.held.find(({ id }) => id === attempt)?.kind === "evaluation";
    if (isEvaluation === this.#random.chance(0.02)) return this.#buildResult(attempt);
    const source = { reference: "path:/etc", wrapped: false, paths: [this.path()] };
    const result = { kind: "evaluation", status: "completed", failure: null, source } as const;
    return { type: "job_result", attempt, result };
  }

  #buildResult(attempt: string): Of<"job_result"> {
    const random = this.#random;
    const huge = 2 ** 53 - 1;
    const path = `${this.path()}/../../etc/passwd`;
    const product = { output: "out", type: "file", subtype: "", name: "a\0b/../..", path, size: huge };
    const missing = [this.path(), this.path()];
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
        outputs: [{ name: "out", path: this.path() }],
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

  describe(attempts: readonly string[]): Of<"worker_capabilities"> {
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

  next(): number {
    return this.#number++;
  }

  streamId(fresh = false): number {
    if (fresh && this.#random.chance(0.995)) return this.#stream++;
    return this.#random.pick([this.#stream++, Math.max(1, this.#stream - 2), 1, 2 ** 32 - 1]);
  }

  /** One that it holds, mostly. */
  attempt(): string {
    const random = this.#random;
    if (this.held.length > 0 && random.chance(0.7)) return random.pick(this.held).id;
    return this.#id();
  }

  #id(): string {
    const { foreign, organizationId, workerId } = this.#options;
    return this.#random.pick([...foreign.ids, organizationId, workerId]);
  }

  path(): StorePath {
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
