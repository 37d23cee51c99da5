import { Hono } from "hono";
import type { Actor } from "#core/domain/actor.ts";
import { answerPut } from "#core/http/cache-put.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import { cacheUploadRoutes } from "#handlers/caches-uploads.ts";
import type { AppEnv } from "#handlers/env.ts";
import { errorResponder } from "#handlers/errors.ts";

export type Serve = (request: Request) => Promise<Response>;

/** Everything of a server that takes pushes, for one user. */
export function pushServer(uploads: UploadDeps, actor: Actor): Serve {
  const app = new Hono<AppEnv>();
  app.onError(errorResponder(uploads.log));
  app.use(async (c, next) => {
    c.set("actor", actor);
    c.set("bodyBytesMax", 64 * 1024 * 1024);
    await next();
  });
  app.route("/api/v1/caches", cacheUploadRoutes(uploads));
  return async (request) => {
    const put = await answerPut({ ...uploads, authenticate: async () => actor }, request);
    return put ?? (await app.fetch(request));
  };
}
