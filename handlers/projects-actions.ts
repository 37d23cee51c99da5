import { Hono } from "hono";
import { ChangeActionBody, CreateActionBody, DeliveriesQuery } from "#core/api/project-actions.ts";
import { success } from "#core/http/envelope.ts";
import { TokenBuckets } from "#core/lib/token-buckets.ts";
import type { DeliveryDeps } from "#core/services/action-delivery.ts";
import {
  type ActionDeps,
  addProjectAction,
  changeProjectAction,
  getActionDelivery,
  getProjectAction,
  listActionDeliveries,
  listProjectActions,
  regenerateActionToken,
  removeProjectAction,
} from "#core/services/project-actions.ts";
import { MAIL_TESTS, testProjectAction } from "#core/services/project-actions-test.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { parseId, readJson, readQuery } from "./parse.ts";

/** `/projects/{organization}/{project}/actions`: what is done when something happens. */
export function actionRoutes(deps: ActionDeps & DeliveryDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const mailTests = new TokenBuckets(deps.clock, MAIL_TESTS);

  app.get("/:organization/:project/actions", signedIn, async (c) => {
    return c.json(success(await listProjectActions(deps, c.get("actor"), c.req.param())));
  });

  app.post("/:organization/:project/actions", signedIn, async (c) => {
    const body = await readJson(c, CreateActionBody);
    return c.json(success(await addProjectAction(deps, c.get("actor"), c.req.param(), body)));
  });

  app.get("/:organization/:project/actions/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    return c.json(success(await getProjectAction(deps, c.get("actor"), name, parseId(id, "action id"))));
  });

  app.patch("/:organization/:project/actions/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    const body = await readJson(c, ChangeActionBody);
    return c.json(success(await changeProjectAction(deps, c.get("actor"), name, parseId(id, "action id"), body)));
  });

  app.delete("/:organization/:project/actions/:id", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    await removeProjectAction(deps, c.get("actor"), name, parseId(id, "action id"));
    return c.json(success("Action deleted"));
  });

  app.post("/:organization/:project/actions/:id/test", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    await testProjectAction({ ...deps, mailTests }, c.get("actor"), name, parseId(id, "action id"));
    return c.json(success(null));
  });

  app.post("/:organization/:project/actions/:id/regenerate-token", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    return c.json(success(await regenerateActionToken(deps, c.get("actor"), name, parseId(id, "action id"))));
  });

  app.get("/:organization/:project/actions/:id/deliveries", signedIn, async (c) => {
    const { id, ...name } = c.req.param();
    const page = readQuery(c, DeliveriesQuery);
    return c.json(
      success(await listActionDeliveries(deps, c.get("actor"), name, { id: parseId(id, "action id"), ...page })),
    );
  });

  app.get("/:organization/:project/actions/:id/deliveries/:delivery", signedIn, async (c) => {
    const { id, delivery: deliveryId, ...name } = c.req.param();
    const which = { id: parseId(id, "action id"), deliveryId: parseId(deliveryId, "delivery id") };
    return c.json(success(await getActionDelivery(deps, c.get("actor"), name, which)));
  });

  return app;
}
