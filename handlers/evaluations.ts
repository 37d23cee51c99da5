import { Hono } from "hono";
import { EvaluationAction } from "#core/api/actions.ts";
import { BuildsQuery, type EvaluationFrame } from "#core/api/evaluations.ts";
import { ACTIVE_EVALUATION } from "#core/domain/states.ts";
import { success } from "#core/http/envelope.ts";
import { listArtefacts } from "#core/services/downloads.ts";
import { type EvaluationLogDeps, followEvaluationLogs } from "#core/services/evaluation-logs-follow.ts";
import { actOnEvaluation, getEvaluation, listBuildsOf, listMessagesOf } from "#core/services/evaluations.ts";
import { watchEvaluation } from "#core/services/evaluations-watch.ts";
import type { ProjectDeps } from "#core/services/projects-deps.ts";
import { JSON_LINES, openStream, StreamPlaces, UNBUFFERED } from "./builds-streams.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readJson, readQuery } from "./parse.ts";

/** The id of an event after which there are no others. */
const LAST_EVENT = "ended";

/** Each reads all logs of an evaluation. */
const LOG_READERS_MAX = 32;

/** `/evals`: one run over a commit, its builds and its messages. */
export function evaluationRoutes(deps: ProjectDeps & EvaluationLogDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const places = new StreamPlaces();
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
    const body = await openStream(logPlaces, follow, (text) => `${JSON.stringify(text ?? "")}\n`);
    return c.body(body, 200, { ...JSON_LINES, ...UNBUFFERED });
  });

  app.get("/:id/artefacts", async (c) => {
    return c.json(success(await listArtefacts(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/messages", async (c) => {
    return c.json(success(await listMessagesOf(deps, c.get("actor"), readId(c, "id", "evaluation id"))));
  });

  app.get("/:id/live", async (c) => {
    const id = readId(c, "id", "evaluation id");
    // HTML Living Standard section 9.2.3: a 204 ends the reconnecting of an event source.
    if (c.req.header("last-event-id") === LAST_EVENT) return c.body(null, 204);
    const watch = (signal: AbortSignal) => watchEvaluation(deps, c.get("actor"), id, signal);
    const body = await openStream(places, watch, renderEvent);
    return c.body(body, 200, { "content-type": "text/event-stream; charset=utf-8", ...UNBUFFERED });
  });

  return app;
}

function renderEvent(frame: EvaluationFrame | null): string {
  if (frame === null) return ": nothing new\n\n";
  const last = frame.type === "evaluation_status_changed" && !isActive(frame.status);
  return `${last ? `id: ${LAST_EVENT}\n` : ""}event: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`;
}

function isActive(status: number): boolean {
  return (ACTIVE_EVALUATION as readonly number[]).includes(status);
}
