import { type Context, Hono } from "hono";
import { ChangeIntegrationBody, CreateIntegrationBody } from "#core/api/integrations.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import {
  changeIntegration,
  createIntegration,
  deleteIntegration,
  getIntegration,
  type IntegrationAddress,
  listIntegrationSummaries,
  listIntegrations,
} from "#core/services/integrations.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/orgs/{org}/integrations`: the forges of an organization. */
export function integrationRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:org/integrations", signedIn, async (c) => {
    return c.json(success(await listIntegrations(deps, c.get("actor"), c.req.param("org"))));
  });

  app.put("/:org/integrations", signedIn, async (c) => {
    const body = await readJson(c, CreateIntegrationBody);
    return c.json(success(await createIntegration(deps, c.get("actor"), c.req.param("org"), body)));
  });

  app.get("/:org/integrations/summary", signedIn, async (c) => {
    return c.json(success(await listIntegrationSummaries(deps, c.get("actor"), c.req.param("org"))));
  });

  app.get("/:org/integrations/:integration", signedIn, async (c) => {
    return c.json(success(await getIntegration(deps, c.get("actor"), addressOf(c))));
  });

  app.patch("/:org/integrations/:integration", signedIn, async (c) => {
    const body = await readJson(c, ChangeIntegrationBody);
    return c.json(success(await changeIntegration(deps, c.get("actor"), addressOf(c), body)));
  });

  app.delete("/:org/integrations/:integration", signedIn, async (c) => {
    await deleteIntegration(deps, c.get("actor"), addressOf(c));
    return c.json(success(true));
  });

  return app;
}

function addressOf(c: Context<AppEnv>): IntegrationAddress {
  return { organization: c.req.param("org") ?? "", id: readId(c, "integration", "integration id") };
}
