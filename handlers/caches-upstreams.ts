import { Hono } from "hono";
import { AddUpstreamBody, ChangeUpstreamBody } from "#core/api/caches-upstreams.ts";
import { success } from "#core/http/envelope.ts";
import {
  addUpstream,
  changeUpstream,
  listUpstreams,
  removeUpstream,
  type UpstreamAdminDeps,
} from "#core/services/caches-upstreams.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/caches/{cache}/upstreams`: caches of others, whose paths need not be built. */
export function upstreamRoutes(deps: ServiceDeps & UpstreamAdminDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:cache/upstreams", async (c) => {
    return c.json(success(await listUpstreams(deps, c.get("actor"), c.req.param("cache"))));
  });

  app.put("/:cache/upstreams", signedIn, async (c) => {
    const body = await readJson(c, AddUpstreamBody);
    return c.json(success(await addUpstream(deps, c.get("actor"), c.req.param("cache"), body)));
  });

  app.patch("/:cache/upstreams/:id", signedIn, async (c) => {
    const which = { cacheName: c.req.param("cache"), id: readId(c, "id", "upstream id") };
    await changeUpstream(deps, c.get("actor"), which, await readJson(c, ChangeUpstreamBody));
    return c.json(success("Upstream updated"));
  });

  app.delete("/:cache/upstreams/:id", signedIn, async (c) => {
    await removeUpstream(deps, c.get("actor"), { cacheName: c.req.param("cache"), id: readId(c, "id", "upstream id") });
    return c.json(success("Upstream removed"));
  });

  return app;
}
