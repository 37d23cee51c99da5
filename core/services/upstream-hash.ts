import { equalBytes } from "../lib/bytes.ts";
import { Semaphore } from "../lib/semaphore.ts";
import { validateNar } from "../nix/nar-reader.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { Hasher } from "../ports/hasher.ts";
import type { RemoteUpstream } from "./upstream.ts";
import { requestFile } from "./upstream-file.ts";
import type { SeenPath, UpstreamProbeDeps } from "./upstream-probe.ts";

export interface UpstreamHashDeps extends UpstreamProbeDeps {
  readonly codec: Codec;
  readonly hasher: Hasher;
}

/** Each is a file that is fetched and unpacked for nobody but its hash. */
const RESOLVED_AT_ONCE_MAX = 4;
const NAR_BYTES_MAX = 1024 ** 3;

/**
 * Narinfos that name their NAR by BLAKE3, which no Nix client and no row here knows: the NAR is read once, compared
 * with that hash, and known by its SHA-256 from then on.
 */
export class NarHashResolver {
  readonly #deps: UpstreamHashDeps;
  readonly #places = new Semaphore(RESOLVED_AT_ONCE_MAX);
  readonly #running = new Map<string, Promise<SeenPath | null>>();

  constructor(deps: UpstreamHashDeps) {
    this.#deps = deps;
  }

  /** Null when the NAR is not what the narinfo says (which is logged). Throws what asking for the file throws. */
  async resolved(upstream: RemoteUpstream, seen: SeenPath): Promise<SeenPath | null> {
    if (seen.info.narHash.algorithm === "sha256") return seen;
    const key = `${upstream.id} ${seen.info.storePath}`;
    const running = this.#running.get(key) ?? this.#places.run(() => this.#resolve(upstream, seen));
    this.#running.set(key, running);
    try {
      return await running;
    } finally {
      if (this.#running.get(key) === running) this.#running.delete(key);
    }
  }

  async #resolve(upstream: RemoteUpstream, seen: SeenPath): Promise<SeenPath | null> {
    const { codec, hasher, log } = this.#deps;
    const { info } = seen;
    const ignore = (reason: string) => {
      log.warn("what an upstream says of a path is ignored", { upstream: upstream.url, path: info.storePath, reason });
      return null;
    };
    if (info.narSize > NAR_BYTES_MAX) return ignore(`it is named by BLAKE3 and larger than ${NAR_BYTES_MAX} bytes`);
    const answer = await requestFile(this.#deps, { upstream, info });
    if (!answer) return null;
    const source = { error: null as unknown };
    const nar = codec.decompress(info.compression as Compression, noting(answer.body, source));
    if (!nar) {
      answer.discard();
      return ignore(`it is compressed as ${info.compression}`);
    }
    const [blake3, sha256] = [await hasher.blake3(), hasher.sha256()];
    let size = 0;
    try {
      for await (const chunk of validateNar(nar)) {
        size += chunk.length;
        if (size > info.narSize) return ignore("its NAR is larger than it says");
        blake3.update(chunk);
        sha256.update(chunk);
      }
    } catch (error) {
      // The connection's own failure comes out of a decoder as a broken file: it says nothing of the path.
      if (source.error) throw source.error;
      return ignore(`its file is broken: ${error}`);
    }
    if (size !== info.narSize || !equalBytes(blake3.digest(), info.narHash.digest)) {
      return ignore("its NAR is another one than it says");
    }
    return { ...seen, info: { ...info, narHash: { algorithm: "sha256", digest: sha256.digest() } } };
  }
}

async function* noting(body: AsyncIterable<Uint8Array>, failure: { error: unknown }): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (error) {
    failure.error = error;
    throw error;
  }
}
