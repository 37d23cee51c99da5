import { Hono } from "hono";
import { ChangeCacheBody, CreateCacheBody } from "#core/api/caches.ts";
import { NameQuery } from "#core/api/organizations.ts";
import { PageQuery } from "#core/api/pages.ts";
import { success } from "#core/http/envelope.ts";
import {
  changeCache,
  createCache,
  deleteCache,
  getCache,
  getCachePublicKey,
  isCacheNameFree,
  listAllPublicCaches,
  listCaches,
  switchCache,
} from "#core/services/caches.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/caches`: binary caches as they are administered. What Nix asks of them is answered under `/cache`. */
export function cacheRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/", signedIn, async (c) => {
    return c.json(success(await listCaches(deps, c.get("actor"), readQuery(c, PageQuery))));
  });

  app.put("/", signedIn, async (c) => {
    return c.json(success(await createCache(deps, c.get("actor"), await readJson(c, CreateCacheBody))));
  });

  app.get("/available", signedIn, async (c) => {
    const { name } = readQuery(c, NameQuery);
    return c.json(success(await isCacheNameFree(deps, c.get("actor"), name)));
  });

  app.get("/public", async (c) => c.json(success(await listAllPublicCaches(deps))));

  app.get("/:cache", async (c) => c.json(success(await getCache(deps, c.get("actor"), c.req.param("cache")))));

  app.patch("/:cache", signedIn, async (c) => {
    const body = await readJson(c, ChangeCacheBody);
    return c.json(success(await changeCache(deps, c.get("actor"), c.req.param("cache"), body)));
  });

  app.delete("/:cache", signedIn, async (c) => {
    await deleteCache(deps, c.get("actor"), c.req.param("cache"));
    return c.json(success("Cache deleted"));
  });

  app.post("/:cache/active", signedIn, async (c) => {
    await switchCache(deps, c.get("actor"), c.req.param("cache"), { active: true });
    return c.json(success("The cache is active now"));
  });

  app.delete("/:cache/active", signedIn, async (c) => {
    await switchCache(deps, c.get("actor"), c.req.param("cache"), { active: false });
    return c.json(success("The cache is inactive now"));
  });

  app.post("/:cache/public", signedIn, async (c) => {
    await switchCache(deps, c.get("actor"), c.req.param("cache"), { public: true });
    return c.json(success("The cache is public now"));
  });

  app.delete("/:cache/public", signedIn, async (c) => {
    await switchCache(deps, c.get("actor"), c.req.param("cache"), { public: false });
    return c.json(success("The cache is private now"));
  });

  app.get("/:cache/public-key", async (c) => {
    return c.json(success(await getCachePublicKey(deps, c.get("actor"), c.req.param("cache"))));
  });

  return app;
}
