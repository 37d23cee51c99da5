import { Hono } from "hono";
import { ChangeOrganizationBody, CreateOrganizationBody, NameQuery } from "#core/api/organizations.ts";
import { PageQuery } from "#core/api/pages.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { deleteOrganization } from "#core/services/organization-deletion.ts";
import {
  changeOrganization,
  createOrganization,
  getOrganization,
  getSshKey,
  isOrganizationNameFree,
  listAllPublicOrganizations,
  listOrganizations,
  replaceSshKey,
  setOrganizationPublic,
} from "#core/services/organizations.ts";
import { deleteWebhookSecret, getWebhookSecretState, replaceWebhookSecret } from "#core/services/webhook-secret.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/orgs`: organizations themselves. Members, subscriptions and workers have files of their own. */
export function organizationRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/", signedIn, async (c) => {
    return c.json(success(await listOrganizations(deps, c.get("actor"), readQuery(c, PageQuery))));
  });

  app.put("/", signedIn, async (c) => {
    const body = await readJson(c, CreateOrganizationBody);
    return c.json(success(await createOrganization(deps, c.get("actor"), body)));
  });

  app.get("/available", signedIn, async (c) => {
    const { name } = readQuery(c, NameQuery);
    return c.json(success(await isOrganizationNameFree(deps, c.get("actor"), name)));
  });

  app.get("/public", async (c) => c.json(success(await listAllPublicOrganizations(deps, readQuery(c, PageQuery)))));

  app.get("/:org", async (c) => c.json(success(await getOrganization(deps, c.get("actor"), c.req.param("org")))));

  app.patch("/:org", signedIn, async (c) => {
    const body = await readJson(c, ChangeOrganizationBody);
    return c.json(success(await changeOrganization(deps, c.get("actor"), c.req.param("org"), body)));
  });

  app.delete("/:org", signedIn, async (c) => {
    await deleteOrganization(deps, c.get("actor"), c.req.param("org"));
    return c.json(success("Organization deleted"));
  });

  app.post("/:org/public", signedIn, async (c) => {
    await setOrganizationPublic(deps, c.get("actor"), c.req.param("org"), true);
    return c.json(success("The organization is public now"));
  });

  app.delete("/:org/public", signedIn, async (c) => {
    await setOrganizationPublic(deps, c.get("actor"), c.req.param("org"), false);
    return c.json(success("The organization is private now"));
  });

  app.get("/:org/ssh", signedIn, async (c) => {
    return c.json(success(await getSshKey(deps, c.get("actor"), c.req.param("org"))));
  });

  app.post("/:org/ssh", signedIn, async (c) => {
    return c.json(success(await replaceSshKey(deps, c.get("actor"), c.req.param("org"))));
  });

  app.get("/:org/forge-webhook-secret", signedIn, async (c) => {
    return c.json(success(await getWebhookSecretState(deps, c.get("actor"), c.req.param("org"))));
  });

  app.post("/:org/forge-webhook-secret", signedIn, async (c) => {
    return c.json(success(await replaceWebhookSecret(deps, c.get("actor"), c.req.param("org"))));
  });

  app.delete("/:org/forge-webhook-secret", signedIn, async (c) => {
    await deleteWebhookSecret(deps, c.get("actor"), c.req.param("org"));
    return c.json(success("Webhook secret deleted"));
  });

  return app;
}
