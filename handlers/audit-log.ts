import { Hono } from "hono";
import { PageQuery } from "#core/api/pages.ts";
import { success } from "#core/http/envelope.ts";
import { listCacheAuditEvents, listOrganizationAuditEvents, listOwnAuditEvents } from "#core/services/audit-log.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readQuery } from "./parse.ts";

/** `…/audit-log`: who did what. */
export function auditLogRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/user/audit-log", signedIn, async (c) => {
    return c.json(success(await listOwnAuditEvents(deps, c.get("actor"), readQuery(c, PageQuery))));
  });

  app.get("/orgs/:org/audit-log", signedIn, async (c) => {
    const query = readQuery(c, PageQuery);
    return c.json(success(await listOrganizationAuditEvents(deps, c.get("actor"), c.req.param("org"), query)));
  });

  app.get("/caches/:cache/audit-log", signedIn, async (c) => {
    const query = readQuery(c, PageQuery);
    return c.json(success(await listCacheAuditEvents(deps, c.get("actor"), c.req.param("cache"), query)));
  });

  return app;
}
