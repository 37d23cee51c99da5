import { Hono } from "hono";
import { AvailableQuery, NarsQuery } from "#core/api/caches-nars.ts";
import { success } from "#core/http/envelope.ts";
import { getNar, getNarStats, isNarAvailable, listNars } from "#core/services/cache-nars.ts";
import { getCacheStats } from "#core/services/cache-stats.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { readQuery } from "./parse.ts";

/** `/caches/{cache}/nars` and `/stats`: what a cache holds and has sent. */
export function cacheNarRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:cache/stats", async (c) => {
    return c.json(success(await getCacheStats(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.get("/:cache/nars", async (c) => {
    const query = readQuery(c, NarsQuery);
    return c.json(success(await listNars(deps, c.get("actor"), c.req.param("cache"), query)));
  });

  app.get("/:cache/nars/stats", async (c) => {
    return c.json(success(await getNarStats(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.get("/:cache/nars/available", async (c) => {
    const { hash } = readQuery(c, AvailableQuery);
    return c.json(success(await isNarAvailable(deps, c.get("actor"), { cacheName: c.req.param("cache"), hash })));
  });

  app.get("/:cache/nars/:hash", async (c) => {
    const { cache: cacheName, hash } = c.req.param();
    return c.json(success(await getNar(deps, c.get("actor"), { cacheName, hash })));
  });

  return app;
}
