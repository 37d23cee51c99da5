import { listBlockedPaths } from "../db/blocked-paths.ts";
import { findPathWithNar } from "../db/cache-paths.ts";
import { findRelayingCache, type RelayingCache } from "../db/upstreams.ts";
import { equalBytes } from "../lib/bytes.ts";
import { MINUTE, SECOND } from "../lib/clock.ts";
import { GroupQueues } from "../lib/group-queue.ts";
import { Semaphore } from "../lib/semaphore.ts";
import type { ByteStream } from "../lib/streams.ts";
import { printNarInfo } from "../nix/narinfo.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Compression } from "../ports/codec.ts";
import { signWith, withoutNames } from "./cache-sign.ts";
import { narOf } from "./nar.ts";
import { openNar } from "./nar-open.ts";
import { watched } from "./nar-tee.ts";
import type { RemotePath, UpstreamPath } from "./upstream.ts";
import { keepPassing, type UpstreamKeepDeps } from "./upstream-keep.ts";
import { RememberedMisses } from "./upstream-misses.ts";
import { type UpstreamNarName, upstreamNarUrl } from "./upstream-nar-name.ts";
import { openFound, type UpstreamOpenDeps } from "./upstream-open.ts";
import { isRoundTrip, NARINFO_TIMEOUT_MS } from "./upstream-probe.ts";
import { canPassOn, heldBack, provenFile, WrongFileError } from "./upstream-proven.ts";
import { passing } from "./upstream-reader.ts";
import type { UpstreamFinding } from "./upstreams.ts";

export interface UpstreamRelayDeps extends UpstreamOpenDeps, UpstreamKeepDeps {
  readonly viaName: string;
}

/** What is asked for, of which cache, and for whom. */
export interface RelayQuestion {
  readonly cacheId: string;
  /** The request's `Via`: servers that wait for the answer. */
  readonly via: string | null;
}

export interface RelayedNar {
  /** Null where nobody knows before the end. */
  readonly size: number | null;
  readonly body: ByteStream;
}

/** Each unpacks a file, which takes up to 64 MiB for one of xz. */
const PASSING_MAX = 32;
/** A place is waited for; a client that gets none in this time is told that there is no such file. */
const PLACE_WAIT_MS = 30 * SECOND;
/** A client that reads nothing for so long gives up its place. */
const READER_IDLE_MS = MINUTE;
/** Look-ups at a time; whoever comes on top of them is told that there is nothing, at once. */
const LOOKING_MAX = 2_000;
/** So many paths of one cache are asked about together. */
const GROUP_MAX = 500;
/** Each round takes one upstream away. */
const ROUNDS_MAX = 16;

/** What a cache answers for its upstreams: under its own name and signature, and nothing that was not proven. */
export class UpstreamRelay {
  readonly #deps: UpstreamRelayDeps;
  readonly #misses: RememberedMisses;
  readonly #places = new Semaphore(PASSING_MAX);
  /** Look-ups under way, also those that nobody waits for any more. */
  #looking = 0;
  /** Paths that are being kept, `cache id/hash`. */
  readonly #kept = new Set<string>();
  readonly #blocked: GroupQueues<string, boolean>;

  constructor(deps: UpstreamRelayDeps) {
    this.#deps = deps;
    this.#blocked = new GroupQueues({
      handle: async (cacheId, hashes) => {
        const blocked = new Set((await listBlockedPaths(deps.db, [cacheId], hashes)).map(({ hash }) => hash));
        return hashes.map((hash) => blocked.has(hash));
      },
      concernsAll: () => true,
      groupMax: GROUP_MAX,
      waitingMax: LOOKING_MAX,
    });
    this.#misses = new RememberedMisses(deps);
  }

  /** A narinfo's text. Null when no upstream has the path, or none says so in the time that one look-up may take. */
  async narInfo({ cacheId, via, hash }: RelayQuestion & { readonly hash: string }): Promise<string | null> {
    const key = `${cacheId}/${hash}`;
    if (isRoundTrip(this.#deps.viaName, via) || this.#misses.has(key)) return null;
    if (!(await this.#deps.upstreams.hasAny(cacheId))) return null;
    const noteMiss = this.#misses.begin(key);
    const finding = await this.#soon(this.#lookUp({ cacheId, via, hash }));
    if (finding === null) noteMiss();
    if (finding === null || finding === "unknown") return null;
    const cache = await findRelayingCache(this.#deps.db, cacheId);
    return cache ? await this.#rendered(cache, finding) : null;
  }

  /** A NAR file by a name that `narInfo` gave out. Null when it is not to be had. */
  async nar({ cacheId, via, name }: RelayQuestion & { readonly name: UpstreamNarName }): Promise<RelayedNar | null> {
    const own = await this.#own(cacheId, name);
    if (own) return own;
    if (isRoundTrip(this.#deps.viaName, via)) return null;
    for (let round = 0; round < ROUNDS_MAX; round++) {
      const hit = await this.#find({ cacheId, via, name });
      if (!hit) return null;
      const opened = await this.#open({ cacheId, via, name }, hit);
      if (opened) return opened;
    }
    return null;
  }

  /** The log of a build that an upstream of the cache made. Null when none has it, or none answers in time. */
  async log(question: RelayQuestion & { readonly derivation: StorePath }): Promise<ByteStream | null> {
    const { cacheId, via, derivation } = question;
    return isRoundTrip(this.#deps.viaName, via) ? null : await this.#deps.upstreams.openLog([cacheId], derivation, via);
  }

  /** What `nar` would open, without its body: for HEAD. */
  async narSize(question: RelayQuestion & { readonly name: UpstreamNarName }): Promise<{ size: number | null } | null> {
    const { cacheId, name } = question;
    const row = await this.#ownRow(cacheId, name);
    if (row) return { size: row.file_size };
    const hit = isRoundTrip(this.#deps.viaName, question.via) ? null : await this.#find(question);
    if (!hit) return null;
    return { size: hit.info.compression === name.compression ? hit.info.fileSize : null };
  }

  /** What the cache has kept since, or was sent. */
  async #own(cacheId: string, name: UpstreamNarName): Promise<RelayedNar | null> {
    const row = await this.#ownRow(cacheId, name);
    const body = row && (await openNar(this.#deps, narOf(row)));
    return body && { size: row.file_size, body };
  }

  async #ownRow(cacheId: string, { hash, narHash, compression }: UpstreamNarName) {
    const row = compression === "zstd" ? await findPathWithNar(this.#deps.db, { cacheId, hash }) : undefined;
    return row && equalBytes(row.nar_hash, narHash) ? row : null;
  }

  async #find(question: RelayQuestion & { readonly name: UpstreamNarName }): Promise<UpstreamPath | null> {
    const { cacheId, via, name } = question;
    const finding = await this.#soon(this.#lookUp({ cacheId, via, hash: name.hash }));
    if (finding === null || finding === "unknown") return null;
    const { info } = finding;
    return equalBytes(info.narHash.digest, name.narHash) && canPassOn(info.compression, name.compression)
      ? finding
      : null;
  }

  async #open(
    { cacheId, via, name }: RelayQuestion & { readonly name: UpstreamNarName },
    hit: UpstreamPath,
  ): Promise<RelayedNar | null> {
    if (hit.nar) {
      const opened = name.compression === "zstd" ? await openFound(this.#deps, hit) : null;
      return opened && { size: opened.fileSize, body: opened.body };
    }
    const cache = await findRelayingCache(this.#deps.db, cacheId);
    const release = await this.#place();
    if (!release || !cache) return null;
    try {
      const opened = await openFound(this.#deps, hit, via);
      if (!opened) {
        release();
        return null;
      }
      const proven = this.#judged(hit, provenFile(this.#deps, opened, name.compression));
      const body = this.#keeping(cache, hit, name, proven);
      const size = hit.info.compression === name.compression ? opened.fileSize : null;
      return { size, body: passing(body, { clock: this.#deps.clock, idleMs: READER_IDLE_MS, onEnd: release }) };
    } catch (error) {
      release();
      throw error;
    }
  }

  /** An upstream that gives out something else than it says is not asked for it again. */
  async *#judged(hit: RemotePath, body: ByteStream): AsyncGenerator<Uint8Array> {
    try {
      yield* body;
    } catch (error) {
      if (error instanceof WrongFileError) await this.#deps.upstreams.forget(hit, error.message);
      throw error;
    }
  }

  /** Our signature is for what the upstream has signed: where only its content address speaks, it goes on doing so. */
  #keeping(cache: RelayingCache, path: RemotePath, name: UpstreamNarName, body: ByteStream): ByteStream {
    const key = `${cache.id}/${name.hash}`;
    const isKept = cache.pull_through && path.signed && name.compression === "zstd" && !this.#kept.has(key);
    if (!isKept) return body;
    this.#kept.add(key);
    const kept = watched(body, async (copy) => {
      try {
        await keepPassing(this.#deps, { cacheId: cache.id, path }, copy);
      } finally {
        this.#kept.delete(key);
      }
    });
    // Whoever has it whole finds it kept.
    return heldBack(kept);
  }

  async #rendered(cache: RelayingCache, hit: UpstreamPath): Promise<string> {
    const { info } = hit;
    const compression = cache.pull_through && !hit.nar ? "zstd" : (info.compression as Compression);
    const asItComes = compression === info.compression;
    const own = hit.nar || hit.signed ? await this.#signatures(cache, hit) : [];
    return printNarInfo({
      ...info,
      url: upstreamNarUrl(hit.upstream.id, info, compression),
      compression,
      // Nix gives up on a narinfo with a hash that it does not know.
      fileHash: asItComes && info.fileHash?.algorithm === "sha256" ? info.fileHash : null,
      fileSize: asItComes ? info.fileSize : null,
      signatures: [...new Set([...own, ...withoutNames(info.signatures, cache.keyNames)])],
    });
  }

  async #signatures(cache: RelayingCache, { info }: UpstreamPath): Promise<string[]> {
    return await signWith(await Promise.all(cache.keys.map(this.#deps.secretKeyOf)), info);
  }

  /** What a cache does not take it does not vouch for either: that is unknown, so that it is not remembered. */
  async #lookUp({ cacheId, via, hash }: RelayQuestion & { readonly hash: string }): Promise<UpstreamFinding> {
    if (this.#looking >= LOOKING_MAX) return "unknown";
    this.#looking++;
    try {
      if (await this.#blocked.add(cacheId, hash)) return "unknown";
      return await this.#deps.upstreams.findOne(cacheId, { hash, path: null, via });
    } finally {
      this.#looking--;
    }
  }

  /** What is not known by then goes on being asked for, and is known the next time. */
  async #soon(finding: Promise<UpstreamFinding>): Promise<UpstreamFinding> {
    const { clock } = this.#deps;
    let cancel = () => {};
    const late = new Promise<"unknown">((resolve) => {
      cancel = clock.schedule(NARINFO_TIMEOUT_MS, () => resolve("unknown"));
    });
    try {
      return await Promise.race([finding, late]);
    } finally {
      cancel();
      finding.catch((error: unknown) => this.#deps.log.debug("a look-up that nobody waited for failed", { error }));
    }
  }

  async #place(): Promise<(() => void) | null> {
    const { clock } = this.#deps;
    let cancel = () => {};
    const late = new Promise<null>((resolve) => {
      cancel = clock.schedule(PLACE_WAIT_MS, () => resolve(null));
    });
    const acquired = this.#places.acquire();
    const release = await Promise.race([acquired, late]);
    cancel();
    if (!release) void acquired.then((unused) => unused());
    return release;
  }
}
