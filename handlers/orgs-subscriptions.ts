import { Hono } from "hono";
import { SubscribeBody } from "#core/api/organizations.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { listSubscribedCaches, subscribe, unsubscribe } from "#core/services/subscriptions.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson } from "./parse.ts";

/** `/orgs/{org}/subscribe`: which caches an organization's builds read from and write to. */
export function subscriptionRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:org/subscribe", signedIn, async (c) => {
    return c.json(success(await listSubscribedCaches(deps, c.get("actor"), c.req.param("org"))));
  });

  app.post("/:org/subscribe/:cache", signedIn, async (c) => {
    const names = { organization: c.req.param("org"), cache: c.req.param("cache") };
    await subscribe(deps, c.get("actor"), names, await readJson(c, SubscribeBody));
    return c.json(success("Subscribed"));
  });

  app.delete("/:org/subscribe/:cache", signedIn, async (c) => {
    const names = { organization: c.req.param("org"), cache: c.req.param("cache") };
    await unsubscribe(deps, c.get("actor"), names);
    return c.json(success("Unsubscribed"));
  });

  return app;
}
