import { Hono } from "hono";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { describeInstance } from "#core/services/instance.ts";
import type { AppEnv } from "./env.ts";

/** `/health` and `/config`: whether the server answers, and what a client must know before anyone signs in. */
export function generalRoutes(deps: Pick<ServiceDeps, "settings">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/health", (c) => c.json(success("200 ALIVE")));
  app.get("/config", (c) => c.json(success(describeInstance(deps))));

  return app;
}
