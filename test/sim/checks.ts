import { type Kysely, sql } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { SERVER_SILENCE_MS } from "#core/db/servers.ts";
import { AttemptOutcome } from "#core/domain/states.ts";
import { BROKEN_INVARIANTS, failFor } from "../transitions/invariants.ts";
import { short } from "./executors.ts";
import { Hearing } from "./hearing.ts";
import type { Link, Side, Tap } from "./network.ts";
import { LEASE_MS } from "./server.ts";
import type { Simulator } from "./simulator.ts";
import type { RunningExecutor } from "./worker.ts";

/** What the server says of a lease that its worker has not named. */
const UNKNOWN = /^the worker no longer knows/;
/** What the server says of a lease that it has reaped. */
const REAPED = /^the worker was silent/;
/** Silence is noticed, then the lease runs out, and both take a moment. */
const RUNS_ON_MS_MAX = 45_000 + 10_000 + 60_000 + 20_000;

/** How long a server may take to see that a session on another server has replaced one of its own. */
const REPLACED_MS_MAX = 60_000;

type Message = { readonly type: string; readonly attempt?: string } & Readonly<Record<string, unknown>>;

interface Newest {
  readonly link: Link;
  readonly atMs: number;
}

interface SeenAttempt {
  readonly outcome: number;
  readonly finished: string | null;
}

interface AttemptRow extends SeenAttempt {
  readonly id: string;
  readonly worker_id: string;
  readonly message: string | null;
}

interface Broken {
  readonly broken: Readonly<Record<string, unknown>> | null;
}

/** What is looked at after each step, beside the invariants. */
interface Look {
  readonly attempts: readonly AttemptRow[];
  /** Evaluations that have not ended. */
  readonly open: number;
  /** Workers that the server counts as connected. */
  readonly connected: number;
}

const invariants = sql<Broken>`${sql.raw(BROKEN_INVARIANTS)}`;

/** Attempts that have ended before the last look cannot have changed unless something overwrites history. */
const look = (since: Date) => sql<Look>`
  select
    (select coalesce(jsonb_agg(jsonb_build_object('id', id, 'worker_id', worker_id, 'outcome', outcome,
        'finished', finished_at::text, 'message', message) order by id), '[]')
      from attempt where finished_at is null or finished_at >= ${since}) as attempts,
    (select count(*)::int from evaluation where status not in (5, 6, 7)) as open,
    (select count(*)::int from worker_connection where disconnected_at is null) as connected`;

/** What a worker was told of an attempt. Of those of others it may be told anything. */
interface OwnAttempt {
  readonly attempt: string;
  readonly workerId: string;
}

interface Watchers {
  /** Told of everything that workers send. */
  readonly heard: (link: Link, text: string) => void;
  /** Store paths, as base names, that may be missing. */
  readonly lost: ReadonlySet<string>;
}

/** Looks at every message and, after each step, at the rows: whatever breaks a promise ends the run. */
export class Checker implements Tap {
  readonly #simulator: Simulator;
  readonly #watchers: Watchers;
  readonly #running: ReadonlyMap<string, RunningExecutor>;
  /** Of each attempt that has a result, whether its worker still lives and has not been told to drop it. */
  readonly #done: ReadonlyMap<string, () => boolean>;
  readonly #attempts = new Map<string, SeenAttempt>();
  /** Attempts whose results reached the server, with the workers that sent them. */
  readonly #reported = new Map<string, Set<string>>();
  readonly #batches = new Map<string, readonly string[]>();
  readonly #uploads = new Map<string, string>();
  /** By connection, the attempts that its worker said it runs. */
  readonly #named = new Map<number, { readonly attempts: readonly string[]; readonly at: Date }>();
  /** By worker, its last session that was registered. */
  readonly #newest = new Map<string, Newest>();
  #registered: Link[] = [];
  #acknowledged: OwnAttempt[] = [];
  #dropped: OwnAttempt[] = [];
  #offered: string[] = [];
  #linked: { readonly attempt: string; readonly drvPath: string }[] = [];
  #lookedAtMs = 0;
  readonly hearing: Hearing;
  /** Of each attempt, whether its result was acknowledged. */
  readonly acknowledged = new Set<string>();

  constructor(
    simulator: Simulator,
    running: ReadonlyMap<string, RunningExecutor>,
    done: ReadonlyMap<string, () => boolean>,
    watchers: Watchers,
  ) {
    this.#watchers = watchers;
    this.#simulator = simulator;
    this.hearing = new Hearing(simulator);
    this.#running = running;
    this.#done = done;
  }

  sent(link: Link, from: Side, text: string): void {
    const message = JSON.parse(text) as Message;
    if (message.type !== "heartbeat" && message.type !== "credit") {
      this.#simulator.note(`${from} ${short(link.workerId)}#${link.number} -> ${describe(message)}`);
    }
    if (from === "worker") this.#watchers.heard(link, text);
    if (from === "worker") this.#fromWorker(link, message);
    else this.#fromServer(link, message);
  }

  received(link: Link, by: Side, text: string): void {
    if (by !== "server" || !text.includes('"job_result"')) return;
    const { type, attempt = "" } = JSON.parse(text) as Message;
    if (type !== "job_result") return;
    this.#reported.set(attempt, (this.#reported.get(attempt) ?? new Set()).add(link.workerId));
  }

  /** True when a message has promised something that is to be looked up. */
  get hasPromises(): boolean {
    const attempts = this.#acknowledged.length + this.#dropped.length + this.#registered.length;
    return attempts + this.#offered.length + this.#linked.length > 0;
  }

  #fromWorker(link: Link, message: Message): void {
    if (message.type === "error") {
      this.#simulator.fail(
        new Error(`worker ${short(link.workerId)} was sent what it does not take: ${message.message}`),
      );
    } else if (message.type === "worker_capabilities") {
      this.#named.set(link.number, { attempts: message.attempts as string[], at: new Date(this.#simulator.nowMs) });
    } else if (message.type === "nar_push") {
      this.#uploads.set(`${link.number} ${message.upload}`, (message.info as { path: string }).path);
    } else if (message.type === "eval_batch") {
      const nodes = message.nodes as { drv_path: string }[];
      this.#batches.set(
        `${message.attempt} ${message.sequence}`,
        nodes.map(({ drv_path }) => drv_path),
      );
    }
  }

  #fromServer(link: Link, message: Message): void {
    const { attempt = "" } = message;
    const newest = this.#newest.get(link.workerId);
    // One that has not come to its introduction has proved nothing yet that another could have taken over.
    const isReplaced = this.#named.has(link.number) && newest && link.number < newest.link.number;
    if (message.type !== "heartbeat" && isReplaced && this.#knows(link, newest)) {
      // Not thrown: what sends would take it for a socket that is closed.
      this.#simulator.fail(new Error(`${message.type} was sent on session ${link.number}, which was replaced`));
    }
    if (message.type === "job_result_ack") {
      this.#acknowledged.push({ attempt, workerId: link.workerId });
      this.acknowledged.add(attempt);
    } else if (message.type === "attempts") {
      // What the worker named and is not told that it holds, it stops.
      const held = new Set((message.held as { attempt: string }[]).map((item) => item.attempt));
      const dropped = (this.#named.get(link.number)?.attempts ?? []).filter((id) => !held.has(id));
      this.#dropped.push(...dropped.map((id) => ({ attempt: id, workerId: link.workerId })));
      this.#newest.set(link.workerId, { link, atMs: this.#simulator.elapsedMs });
      this.#registered.push(link);
    } else if (message.type === "nar_committed") {
      this.#offered.push(this.#uploads.get(`${link.number} ${message.upload}`) as string);
    } else if (message.type === "eval_batch_ack" && message.error === null) {
      const nodes = this.#batches.get(`${attempt} ${message.sequence}`) ?? [];
      this.#linked.push(...nodes.map((drvPath) => ({ attempt, drvPath })));
    } else if (message.type === "assign_job") {
      // A build is never sent before what it needs can be had.
      const { inputs = [] } = message.job as { inputs?: string[] };
      this.#offered.push(...inputs);
    }
  }

  /** Another server learns of it by a wake-up or by its next look at the database. */
  #knows(older: Link, { link, atMs }: Newest): boolean {
    return older.server === link.server || this.#simulator.elapsedMs > atMs + REPLACED_MS_MAX;
  }

  /** Throws with what does not hold. No transaction is under way. `whole`: looks at what is long over, too. */
  async check(db: Kysely<Database>, { whole = false } = {}): Promise<Pick<Look, "open" | "connected">> {
    const since = new Date(whole ? 0 : this.#lookedAtMs);
    this.#lookedAtMs = this.#simulator.nowMs;
    const found = await invariants.execute(db);
    failFor((found.rows[0] as Broken).broken);
    const { rows } = await look(since).execute(db);
    const { attempts, open, connected } = rows[0] as Look;
    for (const attempt of attempts) this.#checkAttempt(attempt);
    await this.#checkPromises(db);
    return { open, connected };
  }

  #checkAttempt({ id, worker_id, outcome, finished, message }: AttemptRow): void {
    const before = this.#attempts.get(id);
    if (before?.finished && (before.outcome !== outcome || before.finished !== finished)) {
      throw new Error(`attempt ${id} had ended as ${before.outcome} and was changed to ${outcome}`);
    }
    if (!before?.finished && isResult(outcome) && !this.#reported.get(id)?.has(worker_id)) {
      throw new Error(`attempt ${id} has a result that its worker did not send`);
    }
    if (!before?.finished && REAPED.test(message ?? "") && !this.#couldHear()) {
      throw new Error(`attempt ${id} was reaped although no server could hear its worker for as long as a lease`);
    }
    this.#attempts.set(id, { outcome, finished });
    if (before?.finished || !UNKNOWN.test(message ?? "")) return;
    if (this.#running.has(id) || this.#done.get(id)?.() === true) {
      throw new Error(`attempt ${id} was taken from worker ${worker_id}, which runs it or has its result`);
    }
  }

  /** A server that was killed counts as alive for a while: workers may have that much less time to come back. */
  #couldHear(): boolean {
    return this.hearing.of(LEASE_MS + SERVER_SILENCE_MS) >= LEASE_MS;
  }

  /** Throws when a worker goes on with what is no longer its own for longer than it may take to find out. */
  checkRunning(): void {
    for (const [attempt, running] of this.#running) {
      if (this.#attempts.get(attempt)?.finished) running.endedSinceMs ??= this.#simulator.elapsedMs;
      const { workerId, endedSinceMs } = running;
      if (endedSinceMs === null || this.#simulator.elapsedMs - endedSinceMs <= RUNS_ON_MS_MAX) continue;
      throw new Error(`worker ${workerId} still runs attempt ${attempt}, which ended at ${endedSinceMs} ms`);
    }
  }

  async #checkPromises(db: Kysely<Database>): Promise<void> {
    await expectEnded(db, this.#acknowledged.splice(0), "acknowledged, but not recorded");
    await expectEnded(db, this.#dropped.splice(0), "taken from its worker with a lease that holds");
    for (const link of this.#registered.splice(0)) await this.#expectFreed(db, link);
    const offered = [...new Set(this.#offered.splice(0))]
      .map((path) => path.slice("/nix/store/".length))
      .filter((path) => !this.#watchers.lost.has(path));
    if (offered.length > 0) {
      const { rows } = await sql<{ path: string }>`
        select path from unnest(${offered}::text[]) as path where not exists (
          select from cache_path p join nar n on n.nar_hash = p.nar_hash
          where p.hash = left(path, 32) and p.store_path = path and n.damaged_at is null)`.execute(db);
      if (rows.length > 0) throw new Error(`said to be there, but in no cache: ${JSON.stringify(rows)}`);
    }
    const linked = this.#linked.splice(0);
    if (linked.length > 0) {
      const { rows } = await sql<{ drv_path: string }>`
        select r.drv_path from jsonb_to_recordset(${JSON.stringify(
          linked.map(({ attempt, drvPath }) => ({ attempt, drv_path: drvPath.slice("/nix/store/".length) })),
        )}::jsonb) as r(attempt uuid, drv_path text)
        join attempt a on a.id = r.attempt
        where not exists (
          select from evaluation_build l join build b on b.id = l.build_id
          where l.evaluation_id = a.evaluation_id and b.drv_path = r.drv_path)`.execute(db);
      if (rows.length > 0) throw new Error(`acknowledged, but not in the evaluation: ${JSON.stringify(rows)}`);
    }
  }

  /** What the worker did not name when its session began is free again. */
  async #expectFreed(db: Kysely<Database>, { number, workerId }: Link): Promise<void> {
    const named = this.#named.get(number);
    if (!named) return;
    const { rows } = await sql<{ id: string }>`
      select id from attempt where worker_id = ${workerId} and finished_at is null
        and id <> all(${named.attempts}::uuid[]) and assigned_at < ${named.at}`.execute(db);
    if (rows.length > 0)
      throw new Error(`worker ${workerId} did not name what it still holds: ${JSON.stringify(rows)}`);
  }
}

async function expectEnded(db: Kysely<Database>, attempts: readonly OwnAttempt[], problem: string): Promise<void> {
  if (attempts.length === 0) return;
  const { rows } = await sql<{ id: string }>`
    select id from attempt
    join jsonb_to_recordset(${JSON.stringify(attempts)}::jsonb) as r(attempt uuid, "workerId" uuid)
      on r.attempt = id and r."workerId" = worker_id
    where finished_at is null`.execute(db);
  if (rows.length > 0) throw new Error(`${problem}: ${rows.map(({ id }) => id).join(", ")}`);
}

function isResult(outcome: number): boolean {
  return (
    outcome === AttemptOutcome.Built || outcome === AttemptOutcome.Substituted || outcome === AttemptOutcome.Failed
  );
}

function describe(message: Message): string {
  const text = JSON.stringify(message);
  return text.length > 300 ? `${text.slice(0, 300)}…` : text;
}
