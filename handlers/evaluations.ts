import { Hono } from "hono";
import { EvaluationAction } from "#core/api/actions.ts";
import { BuildsQuery } from "#core/api/evaluations.ts";
import { success } from "#core/http/envelope.ts";
import { getFlakeGraph } from "#core/services/build-graph.ts";
import { getEvaluationClosure } from "#core/services/closures.ts";
import { compareEvaluations } from "#core/services/compare.ts";
import { listArtefacts } from "#core/services/downloads.ts";
import { type EvaluationLogDeps, followEvaluationLogs } from "#core/services/evaluation-logs-follow.ts";
import { actOnEvaluation, getEvaluation, listBuildsOf, listMessagesOf } from "#core/services/evaluations.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import { getVerdict } from "#core/services/verdict.ts";
import { JSON_LINES, openStream, StreamPlaces, UNBUFFERED } from "./builds-streams.ts";
import { shareHolderOf } from "./client-of.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson, readQuery } from "./parse.ts";

/** Each reads all logs of an evaluation. */
const LOG_READERS_MAX = 32;
const CLIENT_READERS_MAX = 8;

/** `/evals`: one run over a commit, its builds and its messages. */
export function evaluationRoutes(deps: ProjectDeps & EvaluationLogDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const logPlaces = new StreamPlaces(LOG_READERS_MAX);

  app.get("/:id", async (c) => {
    return c.json(success(await getEvaluation(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.post("/:id", signedIn, async (c) => {
    const id = readId(c, "id", "evaluation id");
    await actOnEvaluation(deps, c.get("actor"), id, await readJson(c, EvaluationAction));
    return c.json(success("Success"));
  });

  app.get("/:id/builds", async (c) => {
    const id = readId(c, "id", "evaluation id");
    return c.json(success(await listBuildsOf(deps, c.get("actor"), id, readQuery(c, BuildsQuery))));
  });

  app.post("/:id/builds", signedIn, async (c) => {
    const id = readId(c, "id", "evaluation id");
    const follow = (signal: AbortSignal) => followEvaluationLogs(deps, c.get("actor"), id, signal);
    const body = await openStream(
      logPlaces.of(shareHolderOf(c), CLIENT_READERS_MAX),
      follow,
      (text) => `${JSON.stringify(text ?? "")}\n`,
    );
    return c.body(body, 200, { ...JSON_LINES, ...UNBUFFERED });
  });

  app.get("/:id/artefacts", async (c) => {
    return c.json(success(await listArtefacts(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/messages", async (c) => {
    return c.json(success(await listMessagesOf(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/closure", async (c) => {
    const id = readId(c, "id", "evaluation id");
    return c.json(success(await getEvaluationClosure(deps, c.get("actor"), id, "build")));
  });

  app.get("/:id/runtime-closure", async (c) => {
    const id = readId(c, "id", "evaluation id");
    return c.json(success(await getEvaluationClosure(deps, c.get("actor"), id, "runtime")));
  });

  app.get("/:id/flake-graph", async (c) => {
    return c.json(success(await getFlakeGraph(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/verdict", async (c) => {
    return c.json(success(await getVerdict(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/compare/:other", async (c) => {
    const pair = { after: readId(c, "id", "evaluation id"), before: readId(c, "other", "other evaluation id") };
    return c.json(success(await compareEvaluations(deps, c.get("actor"), pair)));
  });

  return app;
}
