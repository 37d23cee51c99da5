import { type Context, Hono } from "hono";
import type { EvaluationFrame } from "#core/api/evaluations.ts";
import { ACTIVE_EVALUATION } from "#core/domain/states.ts";
import { DomainError } from "#core/errors.ts";
import { sessionCookie } from "#core/http/credentials.ts";
import { asksForWebSocket, isOwnPageWebSocket, offerLive } from "#core/http/live-offer.ts";
import type { PageOrigins } from "#core/http/page-origin.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { type WatchDeps, type WatchOptions, watchBuild, watchEvaluation } from "#core/services/evaluations-watch.ts";
import { watchProject } from "#core/services/evaluations-watch-project.ts";
import type { LiveItem } from "#core/services/live-changes.ts";
import { openStream, type Places, StreamPlaces, UNBUFFERED } from "./builds-streams.ts";
import { shareHolderOf } from "./client-of.ts";
import type { AppEnv } from "./env.ts";
import { readId } from "./parse.ts";

export type LiveDeps = WatchDeps & Pick<ServiceDeps, "settings">;

/** A quarter of the server's: nobody takes all places of the others. */
const CLIENT_STREAMS_MAX = 64;
/** The id of an event after which there are no others. */
const LAST_EVENT = "ended";
const EVENT_STREAM = { "content-type": "text/event-stream; charset=utf-8", ...UNBUFFERED };

type Watch = (options: WatchOptions) => Promise<AsyncGenerator<LiveItem>>;

/** `…/live` of evaluations, builds and projects: what changes, as server-sent events or over a WebSocket. */
export function liveRoutes(deps: LiveDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const places = new StreamPlaces();
  const answer = (c: Context<AppEnv>, watch: Watch, { mayEnd }: { readonly mayEnd: boolean }) =>
    answerLive(deps, c, { places: places.of(shareHolderOf(c), CLIENT_STREAMS_MAX), watch, mayEnd });

  app.get("/evals/:id/live", async (c) => {
    const id = readId(c, "id", "evaluation id");
    return await answer(c, (options) => watchEvaluation(deps, c.get("actor"), id, options), { mayEnd: true });
  });

  app.get("/builds/:id/live", async (c) => {
    const id = readId(c, "id", "build id");
    return await answer(c, (options) => watchBuild(deps, c.get("actor"), id, options), { mayEnd: true });
  });

  app.get("/projects/:organization/:project/live", async (c) => {
    const name = { organization: c.req.param("organization"), project: c.req.param("project") };
    return await answer(c, (options) => watchProject(deps, c.get("actor"), name, options), { mayEnd: false });
  });

  return app;
}

interface LiveAnswer {
  readonly places: Places;
  readonly watch: Watch;
  /** The end of the evaluation is the last thing to be told. */
  readonly mayEnd: boolean;
}

async function answerLive(
  { settings }: LiveDeps,
  c: Context<AppEnv>,
  { places, watch, mayEnd }: LiveAnswer,
): Promise<Response> {
  if (asksForWebSocket(c.req.raw)) {
    if (!isOwnPageWebSocket(c.req.raw, originsOf(settings), sessionCookie(c.req.raw.headers) !== null)) {
      throw new DomainError("forbidden", "The WebSocket was asked for by a page of another origin");
    }
    // Who may not see it is told so before anything is opened.
    const first = new AbortController();
    await (await watch({ position: null, signal: first.signal })).return(undefined);
    return offerLive(c.req.raw, { open: (signal) => openFrames(places, watch, signal) });
  }
  const position = c.req.header("last-event-id") ?? null;
  // HTML Living Standard section 9.2.3: a 204 ends the reconnecting of an event source.
  if (position === LAST_EVENT && mayEnd) return c.body(null, 204);
  const body = await openStream(
    places,
    (signal) => watch({ position, signal }),
    (item) => renderEvent(item, mayEnd),
  );
  return c.body(body, 200, EVENT_STREAM);
}

async function openFrames(places: Places, watch: Watch, signal: AbortSignal): Promise<AsyncIterable<string | null>> {
  const leave = places.take();
  // Also where nobody ever reads: what asked for a WebSocket may turn out not to speak the protocol.
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) leave();
  try {
    return frames(await watch({ position: null, signal }), leave);
  } catch (error) {
    leave();
    throw error;
  }
}

async function* frames(items: AsyncIterable<LiveItem>, leave: () => void): AsyncGenerator<string | null> {
  try {
    for await (const { frame } of items) yield frame && JSON.stringify(frame);
  } finally {
    leave();
  }
}

function renderEvent({ frame, position }: LiveItem, mayEnd: boolean): string {
  if (frame === null) return `: nothing new\nid: ${position}\n\n`;
  const last = mayEnd && frame.type === "evaluation_status_changed" && !isActive(frame.status);
  return `id: ${last ? LAST_EVENT : position}\nevent: ${frame.type}\ndata: ${JSON.stringify(frame)}\n\n`;
}

function isActive(status: Extract<EvaluationFrame, { type: "evaluation_status_changed" }>["status"]): boolean {
  return (ACTIVE_EVALUATION as readonly number[]).includes(status);
}

function originsOf({ serveUrl, frontendUrl }: LiveDeps["settings"]): PageOrigins {
  return { serveUrl, pageOrigins: [new URL(frontendUrl).origin] };
}
