import type { Context } from "hono";
import { Hono } from "hono";
import { ChunkQuery } from "#core/api/build-requests.ts";
import {
  ClosureBody,
  CommitQuery,
  CompleteBody,
  MissingBody,
  PresignedBody,
  UploadBody,
} from "#core/api/caches-uploads.ts";
import { DomainError } from "#core/errors.ts";
import { ERROR_STATUS, failure, success } from "#core/http/envelope.ts";
import { payloadTooLarge } from "#core/http/json-body.ts";
import { uploadBody } from "#core/http/upload-body.ts";
import { fromUtf8 } from "#core/lib/bytes.ts";
import { type ByteStream, collect, LimitExceededError } from "#core/lib/streams.ts";
import { WrongOffsetError } from "#core/services/build-requests-upload.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import {
  abortDirectUpload,
  beginDirectUpload,
  commitClosure,
  completeDirectUpload,
  finalizeUpload,
  findMissing,
  type UploadAddress,
  uploadChunk,
  uploadOffset,
  uploadPath,
} from "#core/services/caches-uploads.ts";
import type { AppEnv } from "./env.ts";
import { signedIn } from "./middleware/signed-in.ts";
import { readParts } from "./multipart.ts";
import { parseAs, readJson, readQuery } from "./parse.ts";

/** A path with 20 000 references. */
export const DESCRIPTION_BYTES_MAX: number = 2 * 1024 * 1024;

/** `/caches/{cache}/nars` and `/closures`: what is pushed by other clients than Nix. */
export function cacheUploadRoutes(deps: UploadDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.post("/:cache/nars", signedIn, async (c) => {
    const { commit } = readQuery(c, CommitQuery);
    const { described, nar } = await readUploadParts(c);
    const view = await uploadPath(deps, c.get("actor"), c.req.param("cache"), { described, nar, commit });
    return c.json(success(view), 201);
  });

  app.post("/:cache/nars/missing", signedIn, async (c) => {
    const body = await readJson(c, MissingBody);
    return c.json(success(await findMissing(deps, c.get("actor"), c.req.param("cache"), body)));
  });

  app.get("/:cache/nars/:hash/chunk", signedIn, async (c) => {
    return c.json(success({ received: await uploadOffset(deps, c.get("actor"), addressOf(c)) }));
  });

  app.put("/:cache/nars/:hash/chunk", signedIn, async (c) => {
    const { offset } = readQuery(c, ChunkQuery);
    try {
      const received = await uploadChunk(deps, c.get("actor"), addressOf(c), { offset, body: bodyOf(c) });
      return c.json(success({ received }));
    } catch (error) {
      // Where to go on, for programs: RFC draft-ietf-httpbis-resumable-upload names the header so.
      if (!(error instanceof WrongOffsetError)) throw error;
      return c.json(failure(error), ERROR_STATUS[error.code], { "upload-offset": String(error.received) });
    }
  });

  app.post("/:cache/nars/:hash/finalize", signedIn, async (c) => {
    const { commit } = readQuery(c, CommitQuery);
    const described = await readJson(c, UploadBody);
    return c.json(success(await finalizeUpload(deps, c.get("actor"), addressOf(c), { described, commit })), 201);
  });

  app.post("/:cache/nars/:hash/presigned", signedIn, async (c) => {
    const body = await readJson(c, PresignedBody);
    return c.json(success(await beginDirectUpload(deps, c.get("actor"), addressOf(c), body)), 201);
  });

  app.delete("/:cache/nars/:hash/presigned", signedIn, async (c) => {
    await abortDirectUpload(deps, c.get("actor"), addressOf(c));
    return c.json(success("The upload is forgotten"));
  });

  app.post("/:cache/nars/:hash/presigned/complete", signedIn, async (c) => {
    const { commit } = readQuery(c, CommitQuery);
    const body = await readJson(c, CompleteBody);
    return c.json(success(await completeDirectUpload(deps, c.get("actor"), addressOf(c), { body, commit })), 201);
  });

  app.post("/:cache/closures", signedIn, async (c) => {
    const body = await readJson(c, ClosureBody);
    return c.json(success(await commitClosure(deps, c.get("actor"), c.req.param("cache"), body)), 201);
  });

  return app;
}

function addressOf(c: Context<AppEnv>): UploadAddress {
  return { cache: c.req.param("cache") ?? "", hash: c.req.param("hash") ?? "" };
}

function bodyOf(c: Context<AppEnv>): ByteStream {
  return uploadBody(c.req.raw, c.get("bodyBytesMax"));
}

/** `narinfo`, then `nar`; what is between them and behind is passed over. The NAR is still to be read. */
async function readUploadParts(c: Context<AppEnv>): Promise<{ described: UploadBody; nar: ByteStream }> {
  let described: UploadBody | null = null;
  const parts = readParts(bodyOf(c), c.req.header("content-type"));
  for (let part = await parts.next(); !part.done; part = await parts.next()) {
    const { name, body } = part.value;
    if (name === "narinfo") described = parseAs(UploadBody, await readDescription(body));
    if (name !== "nar") continue;
    if (!described) throw new DomainError("bad_request", "The part `nar` comes before `narinfo`: send that first");
    return { described, nar: body };
  }
  throw new DomainError("bad_request", `The body holds no part \`${described ? "nar" : "narinfo"}\`: send both`);
}

async function readDescription(body: ByteStream): Promise<unknown> {
  const bytes = await collect(body, DESCRIPTION_BYTES_MAX).catch((error: unknown) => {
    throw error instanceof LimitExceededError ? payloadTooLarge(DESCRIPTION_BYTES_MAX) : error;
  });
  try {
    return JSON.parse(fromUtf8(bytes));
  } catch {
    throw new DomainError("bad_request", "The part `narinfo` is not valid JSON");
  }
}
