import { Hono } from "hono";
import { BadgeQuery } from "#core/api/badges.ts";
import { isNotModified } from "#core/http/conditional.ts";
import { authenticate } from "#core/services/authenticate.ts";
import { drawBadge } from "#core/services/badges.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { readQuery } from "./parse.ts";

const IMAGE_HEADERS = {
  "content-type": "image/svg+xml; charset=utf-8",
  // It shows now, not when somebody looked before. What not everybody may see is not kept at all.
  pragma: "no-cache",
  // Opened by itself it is a page of this origin.
  "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
  "x-content-type-options": "nosniff",
};

/** `/projects/{organization}/{project}/badge`: an image for pages of others. */
export function badgeRoutes(deps: Pick<ServiceDeps, "db" | "clock" | "settings">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:organization/:project/badge", async (c) => {
    const query = readQuery(c, BadgeQuery);
    const { token } = query;
    const credential = token === undefined ? null : { token, clientAddress: c.get("clientIp") };
    const actor = credential ? await authenticate(deps, credential) : c.get("actor");
    const badge = await drawBadge(deps, actor, c.req.param(), query);
    const headers = {
      ...IMAGE_HEADERS,
      etag: badge.etag,
      "cache-control": badge.public ? "no-cache, max-age=0" : "no-store",
    };
    if (isNotModified(c.req.raw.headers, badge.etag)) return c.body(null, 304, headers);
    return c.body(badge.svg, 200, headers);
  });

  return app;
}
