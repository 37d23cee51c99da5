import { Hono } from "hono";
import * as v from "valibot";
import { LogLinesQuery, LogSearchQuery } from "#core/api/builds.ts";
import { queryNumber } from "#core/api/evaluation-queries.ts";
import { DomainError } from "#core/errors.ts";
import { success } from "#core/http/envelope.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { type ByteStream, toReadableStream } from "#core/lib/streams.ts";
import { describeLog, readLogChunk, readLogLines, readWholeLog, searchLog } from "#core/services/build-logs.ts";
import { type FollowDeps, followLog } from "#core/services/build-logs-follow.ts";
import { JSON_LINES, openStream, StreamPlaces, UNBUFFERED, USER_MADE } from "./builds-streams.ts";
import { shareHolderOf } from "./client-of.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readId, readQuery } from "./parse.ts";

/** Half of what one client may have of changes that are told live: each reads a log. */
const CLIENT_STREAMS_MAX = 32;
const TEXT = { "content-type": "text/plain; charset=utf-8", ...USER_MADE };

/** `/builds/{build}/log`: whole, in parts, searched, and as it grows. Logs are streamed, whatever their size. */
export function buildLogRoutes(deps: FollowDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const places = new StreamPlaces();

  app.get("/:id/log", async (c) => {
    const log = await readWholeLog(deps, c.get("actor"), readId(c, "id", "build id"));
    return c.body(toReadableStream(enveloped(log)), 200, { "content-type": "application/json", ...USER_MADE });
  });

  app.post("/:id/log", signedIn, async (c) => {
    const id = readId(c, "id", "build id");
    const follow = (signal: AbortSignal) => followLog(deps, c.get("actor"), id, signal);
    const body = await openStream(places.of(shareHolderOf(c), CLIENT_STREAMS_MAX), follow, lineRenderer());
    return c.body(body, 200, { ...JSON_LINES, ...UNBUFFERED });
  });

  app.get("/:id/log/chunks", async (c) => {
    return c.json(success(await describeLog(deps, c.get("actor"), readId(c, "id", "build id"))));
  });

  app.get("/:id/log/chunk/:index", async (c) => {
    const id = readId(c, "id", "build id");
    const index = v.safeParse(queryNumber, c.req.param("index"));
    if (!index.success) throw new DomainError("validation", "chunk index must be a whole number without a sign");
    return c.body(toReadableStream(await readLogChunk(deps, c.get("actor"), id, index.output)), 200, TEXT);
  });

  app.get("/:id/log/lines", async (c) => {
    const id = readId(c, "id", "build id");
    const range = readQuery(c, LogLinesQuery);
    return c.body(toReadableStream(await readLogLines(deps, c.get("actor"), id, range)), 200, TEXT);
  });

  app.get("/:id/log/search", async (c) => {
    const id = readId(c, "id", "build id");
    const { q, case: sensitive } = readQuery(c, LogSearchQuery);
    const search = { text: q, caseSensitive: sensitive === "true" || sensitive === "1" || sensitive === "" };
    const records = await searchLog(deps, c.get("actor"), id, search);
    return c.body(toReadableStream(jsonLines(records)), 200, JSON_LINES);
  });

  return app;
}

/** The envelope around a text that is never whole in memory. */
async function* enveloped(log: ByteStream): ByteStream {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  yield utf8('{"error":false,"message":"');
  for await (const bytes of log) yield escaped(decoder.decode(bytes, { stream: true }));
  yield escaped(decoder.decode());
  yield utf8('"}');
}

function escaped(text: string): Uint8Array {
  return utf8(JSON.stringify(text).slice(1, -1));
}

/** Each part of the log as one JSON string; the strings together are the log. A silent while is an empty one. */
function lineRenderer(): (bytes: Uint8Array | null) => string {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return (bytes) => `${JSON.stringify(bytes ? decoder.decode(bytes, { stream: true }) : "")}\n`;
}

async function* jsonLines(records: AsyncIterable<unknown>): ByteStream {
  for await (const record of records) yield utf8(`${JSON.stringify(record)}\n`);
}
