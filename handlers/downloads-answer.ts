import type { Context } from "hono";
import type { Actor } from "#core/domain/actor.ts";
import { downloadHeaders } from "#core/http/download-headers.ts";
import { MINUTE } from "#core/lib/clock.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { downloaderOf } from "#core/services/downloads.ts";
import { type DownloadDeps, openDownload } from "#core/services/downloads-open.ts";
import type { Places } from "./builds-streams.ts";
import { pacedStream } from "./downloads-stream.ts";
import type { AppEnv } from "./env.ts";

export type DownloadRouteDeps = DownloadDeps & Pick<ServiceDeps, "clock" | "settings">;

/** A client that takes nothing for so long gives its place to another. */
const IDLE_MS_MAX: number = 1 * MINUTE;

/**
 * A file that a build offers, as a body. The token is one of the address, for links that a browser follows; it counts
 * before a cookie that comes along.
 */
export async function answerDownload(
  deps: DownloadRouteDeps,
  c: Context<AppEnv>,
  places: Places,
  { id, file, token }: { readonly id: string; readonly file: string; readonly token: string | undefined },
): Promise<Response> {
  const actor = await actorOf(deps, c, { id, token });
  const leave = places.take();
  try {
    const download = await openDownload(deps, actor, id, file);
    const headers = downloadHeaders(download);
    if (c.req.method !== "HEAD") {
      return c.body(pacedStream(deps.clock, download, { idleMsMax: IDLE_MS_MAX, onEnd: leave }), 200, headers);
    }
    await download.discard();
    leave();
    return c.body(null, 200, headers);
  } catch (error) {
    leave();
    throw error;
  }
}

async function actorOf(
  deps: DownloadRouteDeps,
  c: Context<AppEnv>,
  { id, token }: { readonly id: string; readonly token: string | undefined },
): Promise<Actor> {
  return token === undefined
    ? c.get("actor")
    : await downloaderOf(deps, id, { token, clientAddress: c.get("clientIp") });
}
