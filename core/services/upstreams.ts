import {
  deleteStaleAnswers,
  type FoundUpstreamPath,
  listRecordedPaths,
  missReferrers,
  recordUpstreamAnswers,
  type UpstreamAnswer,
} from "../db/upstream-paths.ts";
import { chunksOf } from "../lib/chunks.ts";
import { SECOND } from "../lib/clock.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import { type StorePath, storePathBaseName, storePathHash } from "../nix/store-path.ts";
import type { Logger } from "../ports/logger.ts";
import { type Outbound, OutboundError } from "../ports/outbound.ts";
import { UpstreamDirectory, type UpstreamDirectoryDeps } from "./upstream-directory.ts";
import { UpstreamLines } from "./upstream-lines.ts";
import { narInfoOfRecord, recordOf } from "./upstream-path.ts";
import { probeUpstream, type Upstream } from "./upstream-probe.ts";

export interface UpstreamsDeps extends UpstreamDirectoryDeps {
  readonly outbound: Outbound;
  readonly log: Logger;
  /** Look-ups of the whole server at a time (`GRADIENT_UPSTREAM_QUERY_CONCURRENCY`). */
  readonly upstreamQueriesMax: number;
}

export interface UpstreamPath {
  readonly upstream: Upstream;
  readonly info: NarInfo;
}

export interface UpstreamFindings {
  readonly found: ReadonlyMap<StorePath, UpstreamPath>;
  /** Neither found nor known to be absent: an upstream did not answer. */
  readonly unknown: ReadonlySet<StorePath>;
}

const CHUNK = 1_000;
/** A look-up that waited longer for its turn counts as failed. */
const QUEUED_MS_MAX = 30 * SECOND;

/** The upstreams of this server's caches: what they have, and whether they answer. */
export class Upstreams {
  readonly #deps: UpstreamsDeps;
  readonly #directory: UpstreamDirectory;
  readonly #places: Semaphore;
  readonly #lines: UpstreamLines;

  constructor(deps: UpstreamsDeps) {
    this.#deps = deps;
    this.#directory = new UpstreamDirectory(deps);
    this.#places = new Semaphore(deps.upstreamQueriesMax);
    this.#lines = new UpstreamLines(deps);
  }

  /**
   * Which of the paths an upstream of these caches has: by what was recorded, else by asking all of them in parallel,
   * and then it is recorded. No failure of an upstream is thrown; what the database throws is.
   */
  async find(cacheIds: readonly string[], paths: readonly StorePath[]): Promise<UpstreamFindings> {
    const upstreams = await this.#directory.upstreamsOf(cacheIds);
    const found = new Map<StorePath, UpstreamPath>();
    const unknown = new Set<StorePath>();
    if (upstreams.length === 0) return { found, unknown };
    for (const chunk of chunksOf([...new Set(paths)], CHUNK)) {
      const recorded = await this.#recorded(upstreams, chunk);
      const answers: UpstreamAnswer[] = [];
      await Promise.all(
        chunk.map(async (path) => {
          const known = recorded.get(path);
          const finding = known?.hit ?? (await this.#ask(known?.unasked ?? upstreams, path, answers));
          if (finding === "unknown") unknown.add(path);
          else if (finding) found.set(path, finding);
        }),
      );
      for (const part of chunksOf(answers, CHUNK)) await recordUpstreamAnswers(this.#deps.db, part);
    }
    return { found, unknown };
  }

  /**
   * The upstream has it no more: nobody is sent there for it again before the next look-up, nor for what refers to it,
   * whose closure is not whole now.
   */
  async forget({ upstream, info }: UpstreamPath): Promise<void> {
    const { db, log } = this.#deps;
    const { storePath } = info;
    await recordUpstreamAnswers(db, [{ upstream_id: upstream.id, hash: storePathHash(storePath) }]);
    let lost = [storePathBaseName(storePath)];
    let referrers = 0;
    while (lost.length > 0) {
      lost = await missReferrers(db, upstream.id, lost);
      referrers += lost.length;
    }
    log.warn("an upstream has lost a path", { upstream: upstream.url, path: storePath, referrers });
  }

  /**
   * Asks again the upstreams that were heard to have these paths. What one has lost is forgotten; one that does not
   * answer has lost nothing.
   */
  async confirm(cacheIds: readonly string[], paths: readonly StorePath[]): Promise<void> {
    const upstreams = await this.#directory.upstreamsOf(cacheIds);
    if (upstreams.length === 0) return;
    const recorded = await this.#recorded(upstreams, paths);
    const { signal } = new AbortController();
    await Promise.all(
      [...recorded.values()].map(async ({ hit }) => {
        if (!hit) return;
        const info = await this.#probe(hit.upstream, hit.info.storePath, signal).catch(() => undefined);
        if (info === null) await this.forget(hit);
      }),
    );
  }

  /** As `UpstreamLines.attempt`. */
  attempt<T>(upstream: Upstream, request: () => Promise<T>): Promise<T> {
    return this.#lines.attempt(upstream, request);
  }

  /** Removes answers that count no more. */
  async tidy(): Promise<void> {
    await deleteStaleAnswers(this.#deps.db);
  }

  /** Of each path of which something is recorded: the first upstream that has it, or else those that were not asked. */
  async #recorded(
    upstreams: readonly Upstream[],
    paths: readonly StorePath[],
  ): Promise<Map<StorePath, { readonly hit: UpstreamPath | null; readonly unasked: readonly Upstream[] }>> {
    const rows = await listRecordedPaths(this.#deps.db, {
      upstreamIds: upstreams.map(({ id }) => id),
      hashes: paths.map(storePathHash),
    });
    const byHash = Map.groupBy(rows, ({ hash }) => hash);
    return new Map(
      paths.flatMap((path) => {
        const known = new Map(byHash.get(storePathHash(path))?.map((row) => [row.upstream_id, row]));
        if (known.size === 0) return [];
        const isIt = (upstream: Upstream) => {
          const row = known.get(upstream.id);
          return row?.found === true && row.store_path === storePathBaseName(path);
        };
        const first = upstreams.find(isIt);
        const row = first && (known.get(first.id) as FoundUpstreamPath);
        const hit = first && row ? { upstream: first, info: narInfoOfRecord(row) } : null;
        return [[path, { hit, unasked: upstreams.filter(({ id }) => !known.has(id)) }]];
      }),
    );
  }

  /** Asks all at once; the first that has it is taken, and the others are not waited for. */
  async #ask(
    upstreams: readonly Upstream[],
    path: StorePath,
    answers: UpstreamAnswer[],
  ): Promise<UpstreamPath | "unknown" | null> {
    const found = new AbortController();
    let unknown = false;
    const probes = upstreams.map(async (upstream) => {
      try {
        const info = await this.#probe(upstream, path, found.signal);
        const absent = { upstream_id: upstream.id, hash: storePathHash(path) };
        answers.push(info ? recordOf(upstream.id, info) : absent);
        if (info) return { upstream, info };
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

  async #probe(upstream: Upstream, path: StorePath, found: AbortSignal): Promise<NarInfo | null> {
    const { clock } = this.#deps;
    const queuedAt = clock.monotonic();
    const { places, givenUp } = this.#lines.of(upstream);
    const ask = async () => {
      if (found.aborted || clock.monotonic() - queuedAt > QUEUED_MS_MAX) {
        throw new OutboundError("aborted", `${upstream.url} was not asked: too many look-ups wait`);
      }
      const signal = AbortSignal.any([found, givenUp.signal]);
      return await this.#lines.attempt(upstream, () => probeUpstream(this.#deps, upstream, path, signal), signal);
    };
    return await places.run(() => this.#places.run(ask));
  }
}
