import { Hono } from "hono";
import { ImportKeyBody, RetireKeyBody } from "#core/api/caches-keys.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import {
  exportCacheKey,
  forgetCacheKey,
  importCacheKey,
  listCacheKeys,
  retireCacheKey,
  rotateCacheKey,
} from "#core/services/key-rotation.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/caches/{cache}/keys`: what a cache signs with. */
export function cacheKeyRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:cache/key", signedIn, async (c) => {
    c.header("Cache-Control", "no-store");
    return c.json(success(await exportCacheKey(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.get("/:cache/keys", async (c) => {
    return c.json(success(await listCacheKeys(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.post("/:cache/keys", signedIn, async (c) => {
    const { secret_key } = await readJson(c, ImportKeyBody);
    return c.json(success(await importCacheKey(deps, c.get("actor"), c.req.param("cache"), secret_key)));
  });

  app.post("/:cache/keys/rotate", signedIn, async (c) => {
    return c.json(success(await rotateCacheKey(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.post("/:cache/keys/:key/retire", signedIn, async (c) => {
    const { force } = await readJson(c, RetireKeyBody);
    const which = { cacheName: c.req.param("cache"), id: readId(c, "key", "key") };
    return c.json(success(await retireCacheKey(deps, c.get("actor"), { ...which, force })));
  });

  app.delete("/:cache/keys/:key", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), id: readId(c, "key", "key") };
    await forgetCacheKey(deps, c.get("actor"), which);
    return c.json(success("Key deleted"));
  });

  return app;
}
