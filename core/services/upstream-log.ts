import { type Clock, MINUTE, SECOND } from "../lib/clock.ts";
import type { ByteStream } from "../lib/streams.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import type { Codec, Compression } from "../ports/codec.ts";
import type { RemoteUpstream } from "./upstream.ts";
import { isAbsent, UpstreamFailedError, type UpstreamProbeDeps, upstreamHeaders } from "./upstream-probe.ts";
import { passing } from "./upstream-reader.ts";

export interface UpstreamLogDeps extends UpstreamProbeDeps {
  readonly codec: Codec;
  readonly clock: Clock;
}

const TIMEOUT_MS = 5 * SECOND;
/** Of a reader. */
const IDLE_MS = MINUTE;
const LOG_BYTES_MAX = 64 * 1024 * 1024;
/** Caches keep logs compressed and send them so whatever they are asked for. */
const CODINGS: readonly string[] = ["br", "gzip", "zstd"];

/**
 * What the upstream keeps as the log of a build (`log/<hash>-<name>.drv`, as Nix writes it). Null when it has none.
 * Throws `OutboundError` or `UpstreamFailedError` when it does not say.
 */
export async function requestLog(
  deps: UpstreamLogDeps,
  upstream: RemoteUpstream,
  { derivation, via }: { readonly derivation: StorePath; readonly via: string | null },
): Promise<ByteStream | null> {
  const url = `${upstream.url}/log/${encodeURIComponent(storePathBaseName(derivation))}`;
  const answer = await deps.outbound.get(url, {
    timeoutMs: TIMEOUT_MS,
    idleTimeoutMs: TIMEOUT_MS,
    bytesMax: LOG_BYTES_MAX,
    codings: CODINGS,
    headers: upstreamHeaders(deps, upstream, url, via),
  });
  if (answer.status === 200) {
    const text =
      answer.coding === "identity" ? answer.body : deps.codec.decompress(answer.coding as Compression, answer.body);
    if (text) return passing(limited(text), { clock: deps.clock, idleMs: IDLE_MS, onEnd: () => answer.discard() });
  }
  answer.discard();
  if (answer.status === 200 || isAbsent(answer.status)) return null;
  throw new UpstreamFailedError(`${url} answers with status ${answer.status}`);
}

/** A few kilobytes may unpack to terabytes. */
async function* limited(text: ByteStream): AsyncGenerator<Uint8Array> {
  let size = 0;
  for await (const chunk of text) {
    size += chunk.length;
    if (size > LOG_BYTES_MAX) throw new UpstreamFailedError(`the log is larger than ${LOG_BYTES_MAX} bytes`);
    yield chunk;
  }
}
