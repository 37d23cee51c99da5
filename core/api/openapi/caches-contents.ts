import { ChunkQuery } from "../build-requests.ts";
import {
  BlockBody,
  type BlockView,
  PinBody,
  type PinView,
  PreviewQuery,
  type PreviewView,
  RemovePathQuery,
  type WhyView,
} from "../caches-retention.ts";
import {
  ClosureBody,
  CommitQuery,
  type CommittedView,
  CompleteBody,
  MissingBody,
  type MissingView,
  PresignedBody,
  type PresignedView,
  UploadBody,
  type UploadedView,
} from "../caches-uploads.ts";
import { EMPTY, json, type RouteGroup } from "./route.ts";

const WRITE = { audience: "user", permissions: ["writeStore"] } as const;
/** Of what a client says about a path, and of the bytes that it sends for it. */
const PATH_ERRORS = [
  "bad_request",
  "conflict",
  "payload_too_large",
  "unprocessable_entity",
  "unsupported_media_type",
  "too_many_requests",
] as const;

export const CACHE_UPLOADS = {
  tag: "Uploads",
  description: "Paths that other clients than Nix push: whole, in parts, or straight to the storage.",
  routes: {
    "POST /caches/{cache}/nars": {
      summary: "Upload a path",
      ...WRITE,
      query: CommitQuery,
      upload: {
        contentType: "multipart/form-data",
        description: "First what a narinfo says, then the NAR.",
        parts: { narinfo: "JSON, as the body of `finalize`.", nar: "The NAR as a file, compressed or not." },
      },
      answer: json<UploadedView>(201),
      errors: PATH_ERRORS,
    },
    "POST /caches/{cache}/nars/missing": {
      summary: "Ask which paths a cache does not have",
      ...WRITE,
      body: MissingBody,
      answer: json<MissingView>(),
    },
    "GET /caches/{cache}/nars/{hash}/chunk": {
      summary: "Ask how much of a file has arrived",
      ...WRITE,
      answer: json<{ readonly received: number }>(),
    },
    "PUT /caches/{cache}/nars/{hash}/chunk": {
      summary: "Send a part of a file",
      description: "Where the offset is another, the answer's header `Upload-Offset` says where to go on.",
      ...WRITE,
      query: ChunkQuery,
      upload: { contentType: "application/octet-stream", description: "Bytes of the file from the offset on." },
      answer: json<{ readonly received: number }>(),
      errors: PATH_ERRORS,
    },
    "POST /caches/{cache}/nars/{hash}/finalize": {
      summary: "Finish a path that was sent in parts",
      ...WRITE,
      query: CommitQuery,
      body: UploadBody,
      answer: json<UploadedView>(201),
      errors: PATH_ERRORS,
    },
    "POST /caches/{cache}/nars/{hash}/presigned": {
      summary: "Begin an upload straight to the storage",
      ...WRITE,
      body: PresignedBody,
      answer: json<PresignedView>(201),
      errors: PATH_ERRORS,
    },
    "DELETE /caches/{cache}/nars/{hash}/presigned": {
      summary: "Forget an upload straight to the storage",
      ...WRITE,
      answer: json<string>(),
      errors: ["conflict"],
    },
    "POST /caches/{cache}/nars/{hash}/presigned/complete": {
      summary: "Finish an upload straight to the storage",
      ...WRITE,
      query: CommitQuery,
      body: CompleteBody,
      answer: json<UploadedView>(201),
      errors: PATH_ERRORS,
    },
    "POST /caches/{cache}/closures": {
      summary: "Commit a closure whose NARs have arrived",
      ...WRITE,
      body: ClosureBody,
      answer: json<CommittedView>(201),
      errors: PATH_ERRORS,
    },
  },
} as const satisfies RouteGroup;

const SETTINGS = { audience: "user", permissions: ["manageCacheSettings"] } as const;

export const CACHE_RETENTION = {
  tag: "Retention",
  description: "What stays in a cache and why, and what is taken out of it or kept out.",
  routes: {
    "GET /caches/{cache}/retention/preview": {
      summary: "Say what the next sweep would take",
      ...SETTINGS,
      query: PreviewQuery,
      answer: json<PreviewView>(),
    },
    "GET /caches/{cache}/nars/{hash}/why": {
      summary: "Say why a path is kept",
      ...SETTINGS,
      answer: json<WhyView>(),
    },
    "DELETE /caches/{cache}/nars/{hash}": {
      summary: "Remove a path",
      description: "To keep it out afterwards (`block`) takes `manageCacheSettings`.",
      ...WRITE,
      query: RemovePathQuery,
      answer: EMPTY,
      errors: ["conflict"],
    },
    "GET /caches/{cache}/pins": { summary: "List pins", audience: "reader", answer: json<readonly PinView[]>() },
    "GET /caches/{cache}/pins/{pin}": {
      summary: "List the revisions of a pin",
      audience: "reader",
      answer: json<readonly PinView[]>(),
    },
    "PUT /caches/{cache}/pins/{pin}": {
      summary: "Pin a path",
      ...WRITE,
      body: PinBody,
      answer: json<{ readonly name: string; readonly revision: number }>(),
      errors: ["conflict", "invalid_name", "unprocessable_entity"],
    },
    "DELETE /caches/{cache}/pins/{pin}": { summary: "Remove a pin", ...WRITE, answer: json<string>() },
    "DELETE /caches/{cache}/pins/{pin}/{revision}": {
      summary: "Remove a revision of a pin",
      ...WRITE,
      answer: json<string>(),
    },
    "GET /caches/{cache}/blocked": {
      summary: "List the paths that a cache does not take",
      ...SETTINGS,
      answer: json<readonly BlockView[]>(),
    },
    "PUT /caches/{cache}/blocked/{path}": {
      summary: "Keep a path out of a cache",
      ...SETTINGS,
      body: BlockBody,
      answer: json<string>(),
    },
    "DELETE /caches/{cache}/blocked/{path}": {
      summary: "Let a cache take a path again",
      ...SETTINGS,
      answer: json<string>(),
    },
  },
} as const satisfies RouteGroup;
