import { Hono } from "hono";
import { DownloadQuery } from "#core/api/downloads.ts";
import { success } from "#core/http/envelope.ts";
import { createDownloadToken, listDownloads } from "#core/services/downloads.ts";
import { StreamPlaces } from "./builds-streams.ts";
import { shareHolderOf } from "./client-of.ts";
import { answerDownload, type DownloadRouteDeps } from "./downloads-answer.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readQuery } from "./parse.ts";

/** Each unpacks a NAR as it is sent: some 10 MiB of windows and buffers. */
const DOWNLOADS_MAX = 32;
const CLIENT_DOWNLOADS_MAX = 8;

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
    const { token } = readQuery(c, DownloadQuery);
    const id = readId(c, "id", "build id");
    return await answerDownload(deps, c, places.of(shareHolderOf(c), CLIENT_DOWNLOADS_MAX), {
      id,
      file: c.req.param("file"),
      token,
    });
  });

  return app;
}
