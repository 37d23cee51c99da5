import { Hono } from "hono";
import { ScoringQuery } from "#core/api/board.ts";
import { UpstreamsQuery } from "#core/api/board-upstreams.ts";
import { success } from "#core/http/envelope.ts";
import { getJob, listDispatched, listPending, listRules, summarizeScoring } from "#core/services/board-jobs.ts";
import { listUpstreamFigures } from "#core/services/board-upstreams.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import type { AppEnv } from "./env.ts";
import { readId, readQuery } from "./parse.ts";

/** `/board`: what is given to which worker, and why. Everyone sees what they may see. */
export function boardRoutes(deps: Pick<ServiceDeps, "db">): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.get("/jobs/dispatched", async (c) => c.json(success(await listDispatched(deps, c.get("actor")))));

  app.get("/jobs/pending", async (c) => c.json(success(await listPending(deps, c.get("actor")))));

  app.get("/jobs/:id", async (c) => {
    return c.json(success(await getJob(deps, c.get("actor"), readId(c, "id", "job id"))));
  });

  app.get("/cache/upstreams", async (c) => {
    return c.json(success(await listUpstreamFigures(deps, c.get("actor"), readQuery(c, UpstreamsQuery))));
  });

  app.get("/scoring/rules", (c) => c.json(success(listRules())));

  app.get("/scoring/summary", async (c) => {
    return c.json(success(await summarizeScoring(deps, c.get("actor"), readQuery(c, ScoringQuery))));
  });

  return app;
}
