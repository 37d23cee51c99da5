import { Hono } from "hono";
import { BlockBody, PinBody, PreviewQuery, RemovePathQuery } from "#core/api/caches-retention.ts";
import { DomainError } from "#core/errors.ts";
import { success } from "#core/http/envelope.ts";
import { blockPath, listCacheBlocks, unblockPath } from "#core/services/cache-blocks.ts";
import { listCachePins, listPinRevisions, pinPath, unpin } from "#core/services/cache-pins.ts";
import { removePath } from "#core/services/path-removal.ts";
import type { RetentionDeps } from "#core/services/retention-deps.ts";
import { previewSweep } from "#core/services/retention-preview.ts";
import { explainPath } from "#core/services/retention-why.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

const REVISION = /^[1-9][0-9]{0,8}$/;

/** `/caches/{cache}`: what stays in a cache and why, and what is taken out of it or kept out. */
export function cacheRetentionRoutes(deps: RetentionDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:cache/retention/preview", signedIn, async (c) => {
    const query = readQuery(c, PreviewQuery);
    return c.json(success(await previewSweep(deps, c.get("actor"), c.req.param("cache"), query)));
  });

  app.get("/:cache/nars/:hash/why", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), path: c.req.param("hash") };
    return c.json(success(await explainPath(deps, c.get("actor"), which)));
  });

  app.delete("/:cache/nars/:hash", signedIn, async (c) => {
    const { referrers, block } = readQuery(c, RemovePathQuery);
    const which = { cacheName: c.req.param("cache"), path: c.req.param("hash") };
    await removePath(deps, c.get("actor"), { ...which, referrers: referrers === "true", block });
    return c.body(null, 204);
  });

  app.get("/:cache/pins", async (c) => {
    return c.json(success(await listCachePins(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.get("/:cache/pins/:name", async (c) => {
    const which = { cacheName: c.req.param("cache"), name: c.req.param("name") };
    return c.json(success(await listPinRevisions(deps, c.get("actor"), which)));
  });

  app.put("/:cache/pins/:name", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), name: c.req.param("name") };
    return c.json(success(await pinPath(deps, c.get("actor"), which, await readJson(c, PinBody))));
  });

  app.delete("/:cache/pins/:name", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), name: c.req.param("name"), revision: null };
    await unpin(deps, c.get("actor"), which);
    return c.json(success("Pin removed"));
  });

  app.delete("/:cache/pins/:name/:revision", signedIn, async (c) => {
    const revision = c.req.param("revision");
    if (!REVISION.test(revision)) throw new DomainError("validation", "revision must be a whole number from 1");
    const which = { cacheName: c.req.param("cache"), name: c.req.param("name"), revision: Number(revision) };
    await unpin(deps, c.get("actor"), which);
    return c.json(success("Revision removed"));
  });

  app.get("/:cache/blocked", signedIn, async (c) => {
    return c.json(success(await listCacheBlocks(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.put("/:cache/blocked/:path", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), path: c.req.param("path") };
    const { reason } = await readJson(c, BlockBody);
    await blockPath(deps, c.get("actor"), which, reason);
    return c.json(success("The cache does not take the path any more"));
  });

  app.delete("/:cache/blocked/:path", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), path: c.req.param("path") };
    await unblockPath(deps, c.get("actor"), which);
    return c.json(success("The cache takes the path again"));
  });

  return app;
}
