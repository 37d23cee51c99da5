import {
  type BlobsView,
  BuildOrder,
  ChunkQuery,
  type DispatchView,
  ManifestBody,
  type ManifestView,
  SourceQuery,
} from "../build-requests.ts";
import { json, type RouteGroup } from "./route.ts";

export const BUILD_REQUESTS = {
  tag: "Build requests",
  description: "Sources that people send to have them built, file by file or as one NAR.",
  routes: {
    "POST /build-requests/manifest": {
      summary: "Say which files a source has",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: ManifestBody,
      answer: json<ManifestView>(),
      errors: ["bad_request", "not_found", "forbidden"],
    },
    "POST /build-requests/{request}/blobs": {
      summary: "Send files that are missing",
      audience: "user",
      permissions: ["triggerEvaluation"],
      upload: {
        contentType: "multipart/form-data",
        description: "A part for each file, under the name of its BLAKE3 hash.",
      },
      answer: json<BlobsView>(),
      errors: ["bad_request", "conflict", "gone", "payload_too_large", "unsupported_media_type"],
    },
    "POST /build-requests/{request}/dispatch": {
      summary: "Build what was sent",
      audience: "user",
      permissions: ["triggerEvaluation"],
      body: BuildOrder,
      answer: json<DispatchView>(),
      errors: ["bad_request", "conflict", "gone"],
    },
    "POST /build-requests/source": {
      summary: "Send a source as one NAR and build it",
      audience: "user",
      permissions: ["triggerEvaluation"],
      query: SourceQuery,
      upload: {
        contentType: "multipart/form-data",
        description: "The NAR.",
        parts: { nar: "The source as a NAR." },
      },
      answer: json<DispatchView>(),
      errors: ["bad_request", "conflict", "not_found", "payload_too_large", "unsupported_media_type"],
    },
    "PUT /build-requests/source/{upload}/chunk": {
      summary: "Send a part of a source",
      description: "Where the offset is another, the answer's header `Upload-Offset` says where to go on.",
      audience: "user",
      query: ChunkQuery,
      upload: { contentType: "application/octet-stream", description: "Bytes of the NAR from the offset on." },
      answer: json<{ readonly received: number }>(),
      errors: ["bad_request", "conflict", "payload_too_large", "too_many_requests"],
    },
    "POST /build-requests/source/{upload}/finalize": {
      summary: "Build a source that was sent in parts",
      audience: "user",
      permissions: ["triggerEvaluation"],
      query: SourceQuery,
      body: BuildOrder,
      answer: json<DispatchView>(),
      errors: ["bad_request", "conflict"],
    },
  },
} as const satisfies RouteGroup;
