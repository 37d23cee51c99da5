import { SECOND } from "../lib/clock.ts";
import type { StorePath } from "../nix/store-path.ts";
import type { Outbound, OutboundAnswer } from "../ports/outbound.ts";
import type { OpenedPath } from "./opened-path.ts";
import { isAbsent, narUrl, UpstreamFailedError } from "./upstream-probe.ts";
import type { UpstreamPath, Upstreams } from "./upstreams.ts";

export interface UpstreamOpenDeps {
  readonly upstreams: Upstreams;
  readonly outbound: Outbound;
}

const HEADERS_TIMEOUT_MS = 15 * SECOND;
const IDLE_TIMEOUT_MS = 30 * SECOND;
/** What a compressed file may be larger than its NAR: no form adds more than a few bytes to each block. */
const OVERHEAD_FACTOR = 1.05;
const OVERHEAD_BYTES = 1024 * 1024;

/**
 * The file of a path as an upstream of these caches keeps it, while it comes; nothing of it is proven but what the
 * narinfo's signature says of the NAR. Null when none has it. Where one says that it has it no more, that is recorded.
 * Throws `OutboundError` or `UpstreamFailedError` when none that has it gives it out.
 */
export async function openUpstreamPath(
  { upstreams, outbound }: UpstreamOpenDeps,
  cacheIds: readonly string[],
  path: StorePath,
): Promise<OpenedPath | null> {
  for (;;) {
    const { found, unknown } = await upstreams.find(cacheIds, [path]);
    const hit = found.get(path);
    if (!hit) {
      if (unknown.has(path)) throw new UpstreamFailedError("an upstream that may have it does not answer");
      return null;
    }
    const answer = await upstreams.attempt(hit.upstream, () => request(outbound, hit));
    if (answer) {
      const fileSize = answer.size ?? hit.info.fileSize;
      return { info: hit.info, fileSize, compression: hit.info.compression, body: answer.body };
    }
    // Each round takes one upstream away.
    await upstreams.forget(hit);
  }
}

async function request(outbound: Outbound, { upstream, info }: UpstreamPath): Promise<OutboundAnswer | null> {
  const url = narUrl(upstream.url, info.url);
  if (url === null) return null;
  const bytesMax = Math.ceil(info.narSize * OVERHEAD_FACTOR) + OVERHEAD_BYTES;
  const options = { timeoutMs: HEADERS_TIMEOUT_MS, idleTimeoutMs: IDLE_TIMEOUT_MS, bytesMax };
  const answer = await outbound.get(url, options);
  if (answer.status === 200) return answer;
  answer.discard();
  if (isAbsent(answer.status)) return null;
  throw new UpstreamFailedError(`${url} answers with status ${answer.status}`);
}
