import type { Context } from "hono";
import { Hono } from "hono";
import { BuildOrder, ChunkQuery, ManifestBody, SourceQuery } from "#core/api/build-requests.ts";
import { DomainError } from "#core/errors.ts";
import { ERROR_STATUS, failure, success } from "#core/http/envelope.ts";
import { payloadTooLarge } from "#core/http/json-body.ts";
import { type ByteStream, fromReadableStream } from "#core/lib/streams.ts";
import { openBuildRequest, receiveBlobs } from "#core/services/build-requests.ts";
import type { BuildRequestDeps } from "#core/services/build-requests-deps.ts";
import { dispatchBuildRequest } from "#core/services/build-requests-dispatch.ts";
import {
  buildSentSource,
  finishSourceUpload,
  receiveSourcePart,
  WrongOffsetError,
} from "#core/services/build-requests-upload.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readParts } from "./multipart.ts";
import { readId, readJson, readQuery } from "./parse.ts";

/** `/build-requests`: sources that people send to have them built, file by file or as one NAR. */
export function buildRequestRoutes(deps: BuildRequestDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/manifest", signedIn, async (c) => {
    return c.json(success(await openBuildRequest(deps, c.get("actor"), await readJson(c, ManifestBody))));
  });

  app.post("/source", signedIn, async (c) => {
    const { organization, target } = readQuery(c, SourceQuery);
    for await (const { name, body: nar } of readParts(bodyOf(c), c.req.header("content-type"))) {
      if (name !== "nar") continue;
      const order = { target: target ?? null, system: null, input_overrides: [] };
      return c.json(success(await buildSentSource(deps, c.get("actor"), { organization, order, nar })));
    }
    throw new DomainError("bad_request", "The body holds no part `nar`: send the source as a NAR under that name");
  });

  app.put("/source/:id/chunk", signedIn, async (c) => {
    const id = readId(c, "id", "upload id");
    const { offset } = readQuery(c, ChunkQuery);
    try {
      const received = await receiveSourcePart(deps, c.get("actor"), id, { offset, body: bodyOf(c) });
      return c.json(success({ received }));
    } catch (error) {
      // Where to go on, for programs: RFC draft-ietf-httpbis-resumable-upload names the header so.
      if (error instanceof WrongOffsetError) {
        return c.json(failure(error), ERROR_STATUS[error.code], { "upload-offset": String(error.received) });
      }
      throw error;
    }
  });

  app.post("/source/:id/finalize", signedIn, async (c) => {
    const { organization } = readQuery(c, SourceQuery);
    const order = await readJson(c, BuildOrder);
    const id = readId(c, "id", "upload id");
    return c.json(success(await finishSourceUpload(deps, c.get("actor"), id, { organization, order })));
  });

  app.post("/:id/blobs", signedIn, async (c) => {
    const parts = readParts(bodyOf(c), c.req.header("content-type"));
    return c.json(success(await receiveBlobs(deps, c.get("actor"), readId(c, "id", "session"), parts)));
  });

  app.post("/:id/dispatch", signedIn, async (c) => {
    const order = await readJson(c, BuildOrder);
    return c.json(success(await dispatchBuildRequest(deps, c.get("actor"), readId(c, "id", "session"), order)));
  });

  return app;
}

/** As much of the request's body as its route takes. */
async function* bodyOf(c: Context<AppEnv>): ByteStream {
  const bytesMax = c.get("bodyBytesMax");
  const { body } = c.req.raw;
  if (!body) return;
  let size = 0;
  for await (const bytes of fromReadableStream(body)) {
    size += bytes.length;
    if (size > bytesMax) throw payloadTooLarge(bytesMax);
    yield bytes;
  }
}
