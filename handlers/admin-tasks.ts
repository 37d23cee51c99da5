import { Hono } from "hono";
import { VerifyBody } from "#core/api/admin-tasks.ts";
import { DeepSweepBody } from "#core/api/caches-retention.ts";
import { success } from "#core/http/envelope.ts";
import { showTask, showTasks, stopTask } from "#core/services/admin-tasks.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { requestRepair, requestVerify, showIntegrity } from "#core/services/integrity.ts";
import { requestDeepSweep } from "#core/services/retention-deep.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/admin/tasks`, what starts tasks about stored NARs, and what is known of these. */
export function adminTaskRoutes(deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/maintenance/verify", signedIn, async (c) => {
    const body = await readJson(c, VerifyBody);
    return c.json(success(await requestVerify(deps, c.get("actor"), body)), 202);
  });

  app.post("/maintenance/repair", signedIn, async (c) =>
    c.json(success(await requestRepair(deps, c.get("actor"))), 202),
  );

  app.post("/maintenance/deep-gc", signedIn, async (c) => {
    const body = await readJson(c, DeepSweepBody);
    return c.json(success(await requestDeepSweep(deps, c.get("actor"), body)), 202);
  });

  app.get("/integrity", signedIn, async (c) => c.json(success(await showIntegrity(deps, c.get("actor")))));

  app.get("/tasks", signedIn, async (c) => c.json(success(await showTasks(deps, c.get("actor")))));

  app.get("/tasks/:id", signedIn, async (c) =>
    c.json(success(await showTask(deps, c.get("actor"), readId(c, "id", "task id")))),
  );

  app.post("/tasks/:id/cancel", signedIn, async (c) =>
    c.json(success(await stopTask(deps, c.get("actor"), readId(c, "id", "task id")))),
  );

  return app;
}
