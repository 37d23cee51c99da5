import { type Context, Hono } from "hono";
import { DownloadQuery } from "#core/api/downloads.ts";
import type { Actor } from "#core/domain/actor.ts";
import { downloadHeaders } from "#core/http/download-headers.ts";
import { success } from "#core/http/envelope.ts";
import { MINUTE } from "#core/lib/clock.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { createDownloadToken, downloaderOf, listDownloads } from "#core/services/downloads.ts";
import { type DownloadDeps, openDownload } from "#core/services/downloads-open.ts";
import { StreamPlaces } from "./builds-streams.ts";
import { pacedStream } from "./downloads-stream.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readQuery } from "./parse.ts";

export type DownloadRouteDeps = DownloadDeps & Pick<ServiceDeps, "clock" | "settings">;

/** Each unpacks a NAR as it is sent: some 10 MiB of windows and buffers. */
const DOWNLOADS_MAX = 32;
/** A client that takes nothing for so long gives its place to another. */
const IDLE_MS_MAX: number = 1 * MINUTE;

/** `/builds/{build}/downloads`: the files that a build offers. */
export function buildDownloadRoutes(deps: DownloadRouteDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const places = new StreamPlaces(DOWNLOADS_MAX);

  app.get("/:id/downloads", async (c) => {
    return c.json(success(await listDownloads(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/download-token", signedIn, async (c) => {
    return c.json(success(await createDownloadToken(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/download/:file{.+}", async (c) => {
    const id = readId(c, "id", "build id");
    const actor = await actorOf(deps, c, id);
    const leave = places.take();
    try {
      const download = await openDownload(deps, actor, id, c.req.param("file"));
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
  });

  return app;
}

/** A link that a browser follows carries its token in the query; it counts before a cookie that comes along. */
async function actorOf(deps: DownloadRouteDeps, c: Context<AppEnv>, buildId: string): Promise<Actor> {
  const { token } = readQuery(c, DownloadQuery);
  if (token === undefined) return c.get("actor");
  return await downloaderOf(deps, buildId, { token, clientAddress: c.get("clientIp") });
}
