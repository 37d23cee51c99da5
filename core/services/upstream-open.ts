import type { StorePath } from "../nix/store-path.ts";
import { type NarOpenDeps, openNar } from "./nar-open.ts";
import type { OpenedPath } from "./opened-path.ts";
import type { UpstreamPath } from "./upstream.ts";
import { UpstreamFailedError } from "./upstream-probe.ts";
import type { Upstreams } from "./upstreams.ts";

export interface UpstreamOpenDeps extends NarOpenDeps {
  readonly upstreams: Upstreams;
}

/**
 * The file of a path as an upstream of these caches keeps it, while it comes; nothing of it is proven but what the
 * narinfo's signature says of the NAR. Null when none has it. Where one says that it has it no more, that is recorded.
 * Throws `OutboundError` or `UpstreamFailedError` when none that has it gives it out.
 */
export async function openUpstreamPath(
  deps: UpstreamOpenDeps,
  cacheIds: readonly string[],
  path: StorePath,
): Promise<OpenedPath | null> {
  for (;;) {
    const { found, unknown } = await deps.upstreams.find(cacheIds, [path]);
    const hit = found.get(path);
    if (!hit) {
      if (unknown.has(path)) throw new UpstreamFailedError("an upstream that may have it does not answer");
      return null;
    }
    const opened = await openFound(deps, hit);
    if (opened) return opened;
  }
}

/** Null when the upstream has it no more: that is recorded, so that the next look-up finds another one or none. */
export async function openFound(
  deps: UpstreamOpenDeps,
  hit: UpstreamPath,
  via?: string | null,
): Promise<OpenedPath | null> {
  const { info } = hit;
  if (hit.nar) {
    // Where the object is missing, its NAR is out of service from here on.
    const body = await openNar(deps, hit.nar);
    return body && { info, fileSize: hit.nar.fileSize, compression: info.compression, body };
  }
  const answer = await deps.upstreams.request(hit, via);
  if (answer) return { info, fileSize: answer.size, compression: info.compression, body: answer.body };
  await deps.upstreams.forget(hit, "it does not give out its file");
  return null;
}
