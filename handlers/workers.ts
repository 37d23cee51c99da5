import { Hono } from "hono";
import { ChangeWorkerBody, RegisterWorkerBody } from "#core/api/workers.ts";
import { success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { changeWorker, deleteWorker, listWorkers, registerWorker } from "#core/services/workers.ts";
import { showWorkerHistory, testWorker } from "#core/services/workers-watch.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson } from "./parse.ts";

/** `/orgs/{org}/workers`: the machines that evaluate and build for an organization. */
export function workerRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/:org/workers", signedIn, async (c) => {
    return c.json(success(await listWorkers(deps, c.get("actor"), c.req.param("org"))));
  });

  app.get("/:org/workers/:worker/metrics", signedIn, async (c) => {
    const id = readId(c, "worker", "worker id");
    return c.json(success(await showWorkerHistory(deps, c.get("actor"), c.req.param("org"), id)));
  });

  app.post("/:org/workers/:worker/test", signedIn, async (c) => {
    const id = readId(c, "worker", "worker id");
    return c.json(success(await testWorker(deps, c.get("actor"), c.req.param("org"), id)));
  });

  app.post("/:org/workers", signedIn, async (c) => {
    const body = await readJson(c, RegisterWorkerBody);
    return c.json(success(await registerWorker(deps, c.get("actor"), c.req.param("org"), body)));
  });

  app.patch("/:org/workers/:worker", signedIn, async (c) => {
    const id = readId(c, "worker", "worker id");
    const body = await readJson(c, ChangeWorkerBody);
    return c.json(success(await changeWorker(deps, c.get("actor"), c.req.param("org"), id, body)));
  });

  app.delete("/:org/workers/:worker", signedIn, async (c) => {
    await deleteWorker(deps, c.get("actor"), c.req.param("org"), readId(c, "worker", "worker id"));
    return c.json(success("Worker removed"));
  });

  return app;
}
