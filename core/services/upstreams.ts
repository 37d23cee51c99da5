import { recordUpstreamAnswers, type UpstreamAnswer } from "../db/upstream-paths.ts";
import { AssertionError } from "../lib/assert.ts";
import { chunksOf } from "../lib/chunks.ts";
import { SECOND } from "../lib/clock.ts";
import { GroupQueues } from "../lib/group-queue.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { ByteStream } from "../lib/streams.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import { type OutboundAnswer, OutboundError } from "../ports/outbound.ts";
import type { InternalUpstream, RemotePath, RemoteUpstream, UpstreamPath, UpstreamQuestion } from "./upstream.ts";
import { UpstreamCounter } from "./upstream-counts.ts";
import { UpstreamDirectory, type UpstreamDirectoryDeps } from "./upstream-directory.ts";
import { requestFile } from "./upstream-file.ts";
import { NarHashResolver, type UpstreamHashDeps } from "./upstream-hash.ts";
import { UpstreamLines } from "./upstream-lines.ts";
import { requestLog } from "./upstream-log.ts";
import { loseUpstreamPath } from "./upstream-losses.ts";
import { internalAnswers, recordedAnswers, recordOf } from "./upstream-path.ts";
import { probeUpstream, type SeenPath } from "./upstream-probe.ts";

export interface UpstreamsDeps extends UpstreamDirectoryDeps, UpstreamHashDeps {
  /** Look-ups of the whole server at a time (`GRADIENT_UPSTREAM_QUERY_CONCURRENCY`). */
  readonly upstreamQueriesMax: number;
}

export interface UpstreamFindings {
  readonly found: ReadonlyMap<StorePath, UpstreamPath>;
  /** Neither found nor known to be absent: an upstream did not answer. */
  readonly unknown: ReadonlySet<StorePath>;
}

/** `unknown`: neither found nor known to be absent. Null: no upstream has it. */
export type UpstreamFinding = UpstreamPath | "unknown" | null;

const CHUNK = 1_000;
/** Of one cache; `findOne` throws `QueueFullError` beyond. */
const WAITING_MAX = 10_000;
/** A look-up that waited longer for its turn counts as failed. */
const QUEUED_MS_MAX = 30 * SECOND;

interface Heard {
  readonly hit: UpstreamPath | null;
  /** Without a hit, who may have it. */
  readonly unasked: readonly RemoteUpstream[];
}

/** The upstreams of this server's caches: what they have, and whether they answer. */
export class Upstreams {
  readonly #deps: UpstreamsDeps;
  readonly #directory: UpstreamDirectory;
  readonly #places: Semaphore;
  readonly #lines: UpstreamLines;
  readonly #counter: UpstreamCounter;
  readonly #hashes: NarHashResolver;
  readonly #heardOfOne: GroupQueues<UpstreamQuestion, Heard>;

  constructor(deps: UpstreamsDeps) {
    this.#deps = deps;
    this.#directory = new UpstreamDirectory(deps);
    this.#places = new Semaphore(deps.upstreamQueriesMax);
    this.#lines = new UpstreamLines(deps);
    this.#counter = new UpstreamCounter(deps);
    this.#hashes = new NarHashResolver(deps);
    this.#heardOfOne = new GroupQueues({
      handle: async (cacheId, questions) => await this.#heard([cacheId], questions),
      // What is recorded of one path and cannot be read spoils nobody else's answer.
      concernsAll: (error) => !(error instanceof AssertionError),
      groupMax: CHUNK,
      waitingMax: WAITING_MAX,
    });
  }

  /**
   * Which of the paths an upstream of these caches has: by what was recorded, else by asking all of them in parallel,
   * and then it is recorded. No failure of an upstream is thrown; what the database throws is.
   */
  async find(cacheIds: readonly string[], paths: readonly StorePath[]): Promise<UpstreamFindings> {
    const found = new Map<StorePath, UpstreamPath>();
    const unknown = new Set<StorePath>();
    for (const chunk of chunksOf([...new Set(paths)], CHUNK)) {
      const questions = chunk.map((path) => ({ hash: storePathHash(path), path }));
      const heard = await this.#heard(cacheIds, questions);
      const findings = await this.#answers(questions, heard, { recordMisses: true });
      for (const [index, path] of chunk.entries()) {
        const finding = findings[index];
        if (finding === "unknown") unknown.add(path);
        else if (finding) found.set(path, finding);
      }
    }
    return { found, unknown };
  }

  /** Whether there is anybody to ask. Costs no query while it is remembered. */
  async hasAny(cacheId: string): Promise<boolean> {
    return (await this.#directory.upstreamsOf([cacheId])).length > 0;
  }

  /**
   * As `find`, of one cache and for whoever knows no more than the hash. That none has it is not recorded: anybody may
   * ask for anything. The database is asked for all at once who come while it answers others.
   */
  async findOne(cacheId: string, question: UpstreamQuestion): Promise<UpstreamFinding> {
    const heard = await this.#heardOfOne.add(cacheId, question);
    const [finding] = await this.#answers([question], [heard], { recordMisses: false });
    return finding ?? null;
  }

  /**
   * The upstream has it no more, or something else than it said: nobody is sent there for it again before the next
   * look-up, nor for what refers to it, whose closure is not whole now.
   */
  async forget(path: RemotePath, reason: string): Promise<void> {
    await loseUpstreamPath(this.#deps, path, reason);
  }

  /**
   * Asks again the upstreams that were heard to have these paths. What one has lost is forgotten; one that does not
   * answer has lost nothing.
   */
  async confirm(cacheIds: readonly string[], paths: readonly StorePath[]): Promise<void> {
    const { remote } = await this.#upstreamsOf(cacheIds);
    if (remote.length === 0) return;
    const questions = paths.map((path) => ({ hash: storePathHash(path), path }));
    const recorded = await recordedAnswers(this.#deps.db, remote, questions);
    const { signal } = new AbortController();
    await Promise.all(
      Array.from(recorded, async ([question, { hit }]) => {
        if (!hit) return;
        const seen = await this.#probe(hit.upstream, question, signal).catch(() => undefined);
        if (seen === null) await this.forget(hit, "it answers that it has it not");
      }),
    );
  }

  /**
   * The file of a path as the upstream keeps it, as `requestFile`; tried again as `UpstreamLines.attempt` does.
   * `via`: as of `UpstreamQuestion`.
   */
  async request(path: RemotePath, via?: string | null): Promise<OutboundAnswer | null> {
    return await this.#lines.attempt(path.upstream, () => requestFile(this.#deps, path, via));
  }

  /**
   * The log of a build, from the first upstream of these caches that has it. Null when none does: who does not answer
   * counts as not having it, since nothing rests on logs.
   */
  async openLog(cacheIds: readonly string[], derivation: StorePath, via: string | null): Promise<ByteStream | null> {
    const { remote } = await this.#upstreamsOf(cacheIds);
    for (const upstream of remote) {
      const request = () => requestLog(this.#deps, upstream, { derivation, via });
      const log = await this.#lines.attempt(upstream, request).catch(() => null);
      if (log) return log;
    }
    return null;
  }

  /** Writes what was counted of upstreams since the last time. */
  async flushCounts(): Promise<void> {
    await this.#counter.flush();
  }

  async #upstreamsOf(cacheIds: readonly string[]): Promise<{
    readonly internal: readonly InternalUpstream[];
    readonly remote: readonly RemoteUpstream[];
  }> {
    const all = await this.#directory.upstreamsOf(cacheIds);
    return {
      internal: all.filter((upstream) => upstream.sourceId !== null),
      remote: all.filter((upstream) => upstream.sourceId === null),
    };
  }

  /** What is known without asking anybody, in the order of the questions. */
  async #heard(cacheIds: readonly string[], questions: readonly UpstreamQuestion[]): Promise<Heard[]> {
    const { internal, remote } = await this.#upstreamsOf(cacheIds);
    const own = await internalAnswers(this.#deps.db, internal, questions);
    const open = questions.filter((question) => !own.has(question));
    const recorded = await recordedAnswers(this.#deps.db, remote, open);
    return questions.map((question) => {
      const { hit = null, unasked = remote } = recorded.get(question) ?? {};
      return { hit: own.get(question) ?? hit, unasked };
    });
  }

  /** In the order of the questions. */
  async #answers(
    questions: readonly UpstreamQuestion[],
    heard: readonly Heard[],
    { recordMisses }: { readonly recordMisses: boolean },
  ): Promise<UpstreamFinding[]> {
    const answers: UpstreamAnswer[] = [];
    const findings = await Promise.all(
      questions.map(async (question, index) => {
        const { hit, unasked } = heard[index] as Heard;
        return hit ?? (await this.#ask(unasked, question, answers));
      }),
    );
    const kept = recordMisses ? answers : answers.filter((answer) => "store_path" in answer);
    for (const part of chunksOf(kept, CHUNK)) await recordUpstreamAnswers(this.#deps.db, part);
    return findings;
  }

  /** Asks all at once; the first that has it is taken, and the others are not waited for. */
  async #ask(
    upstreams: readonly RemoteUpstream[],
    question: UpstreamQuestion,
    answers: UpstreamAnswer[],
  ): Promise<RemotePath | "unknown" | null> {
    // Without the errors of attempts that would be refused: everybody asks while an upstream is away.
    const answering = upstreams.filter((upstream) => this.#lines.mayBeAsked(upstream));
    let unknown = answering.length < upstreams.length;
    if (answering.length === 0) return unknown ? "unknown" : null;
    const found = new AbortController();
    const probes = answering.map(async (upstream) => {
      try {
        const seen = await this.#probe(upstream, question, found.signal);
        answers.push(seen ? recordOf(upstream.id, seen) : { upstream_id: upstream.id, hash: question.hash });
        if (seen) return { upstream, ...seen, nar: null };
      } catch {
        unknown = true;
      }
      throw new Error("not there");
    });
    try {
      return await Promise.any(probes);
    } catch {
      return unknown ? "unknown" : null;
    } finally {
      found.abort();
    }
  }

  async #probe(upstream: RemoteUpstream, question: UpstreamQuestion, found: AbortSignal): Promise<SeenPath | null> {
    const { clock } = this.#deps;
    const queuedAt = clock.monotonic();
    const { places, givenUp } = this.#lines.of(upstream);
    const ask = async () => {
      if (found.aborted || clock.monotonic() - queuedAt > QUEUED_MS_MAX) {
        throw new OutboundError("aborted", `${upstream.url} was not asked: too many look-ups wait`);
      }
      const signal = AbortSignal.any([found, givenUp.signal]);
      return await this.#lines.attempt(upstream, () => this.#countedProbe(upstream, question, signal), signal);
    };
    const seen = await places.run(() => this.#places.run(ask));
    return seen && (await this.#hashes.resolved(upstream, seen));
  }

  async #countedProbe(
    upstream: RemoteUpstream,
    question: UpstreamQuestion,
    signal: AbortSignal,
  ): Promise<SeenPath | null> {
    const { clock } = this.#deps;
    const startedAt = clock.monotonic();
    const count = (answer: "hits" | "misses" | "failures") =>
      this.#counter.count(upstream.id, answer, clock.monotonic() - startedAt);
    try {
      const seen = await probeUpstream(this.#deps, upstream, question, signal);
      count(seen ? "hits" : "misses");
      return seen;
    } catch (error) {
      // One that another upstream was faster than says nothing of how this one answers.
      if (!signal.aborted) count("failures");
      throw error;
    }
  }
}
