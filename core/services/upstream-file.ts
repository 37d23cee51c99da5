import { SECOND } from "../lib/clock.ts";
import type { NarInfo } from "../nix/narinfo.ts";
import type { OutboundAnswer } from "../ports/outbound.ts";
import type { RemoteUpstream } from "./upstream.ts";
import { isAbsent, narUrl, UpstreamFailedError, type UpstreamProbeDeps, upstreamHeaders } from "./upstream-probe.ts";

const HEADERS_TIMEOUT_MS = 15 * SECOND;
const IDLE_TIMEOUT_MS = 30 * SECOND;
/** What a compressed file may be larger than its NAR: no form adds more than a few bytes to each block. */
const OVERHEAD_FACTOR = 1.05;
const OVERHEAD_BYTES = 1024 * 1024;

/**
 * The file of a narinfo as the upstream keeps it, while it comes; nothing of it is proven. Null when the upstream does
 * not have it. Throws `OutboundError` or `UpstreamFailedError` when it does not give it out now.
 */
export async function requestFile(
  deps: Pick<UpstreamProbeDeps, "outbound" | "viaName">,
  { upstream, info }: { readonly upstream: RemoteUpstream; readonly info: NarInfo },
  via?: string | null,
): Promise<OutboundAnswer | null> {
  const url = narUrl(upstream.url, info.url);
  if (url === null) return null;
  const answer = await deps.outbound.get(url, {
    timeoutMs: HEADERS_TIMEOUT_MS,
    idleTimeoutMs: IDLE_TIMEOUT_MS,
    bytesMax: Math.ceil(info.narSize * OVERHEAD_FACTOR) + OVERHEAD_BYTES,
    headers: upstreamHeaders(deps, upstream, url, via),
  });
  if (answer.status === 200) return answer;
  answer.discard();
  if (isAbsent(answer.status)) return null;
  throw new UpstreamFailedError(`${url} answers with status ${answer.status}`);
}
