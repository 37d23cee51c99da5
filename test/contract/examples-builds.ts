import { BLOB } from "./names.ts";
import type { Example } from "./requests.ts";

const ORGANIZATION = { organization: "acme" };

export const BUILDS_EXAMPLES = {
  "GET /evals/{evaluation}": {},
  "POST /evals/{evaluation}": { body: { method: "bump", priority: 3 }, refused: 409 },
  "GET /evals/{evaluation}/builds": {},
  "POST /evals/{evaluation}/builds": {},
  "GET /evals/{evaluation}/messages": {},
  "GET /evals/{evaluation}/artefacts": {},
  "GET /evals/{evaluation}/closure": {},
  "GET /evals/{evaluation}/runtime-closure": {},
  "GET /evals/{evaluation}/flake-graph": {},
  "GET /evals/{evaluation}/verdict": {},
  "GET /evals/{evaluation}/compare/{other}": {},
  "GET /evals/{evaluation}/live": {},
  "GET /builds/{build}": {},
  "POST /builds/{build}": { body: { method: "bump" }, refused: 409 },
  "GET /builds/{build}/dependencies": {},
  "GET /builds/{build}/graph": {},
  "GET /builds/{build}/closure": {},
  "GET /builds/{build}/runtime-closure": {},
  "GET /builds/{build}/live": {},
  "GET /builds/{build}/log": {},
  "POST /builds/{build}/log": {},
  "GET /builds/{build}/log/chunks": {},
  "GET /builds/{build}/log/chunk/{index}": {},
  "GET /builds/{build}/log/lines": { query: { start: "1", end: "2" } },
  "GET /builds/{build}/log/search": { query: { q: "line" } },
  "GET /builds/{build}/downloads": {},
  "GET /builds/{build}/download-token": {},
  "GET /builds/{build}/download/{file}": {},
  "POST /build-requests/manifest": {
    body: { ...ORGANIZATION, files: [{ path: "flake.nix", hash: "0".repeat(64), size: 3 }] },
  },
  "POST /build-requests/{request}/blobs": { form: { $blob: BLOB } },
  "POST /build-requests/{request}/dispatch": { path: { request: "$complete" }, body: {} },
  "POST /build-requests/source": { query: ORGANIZATION, form: { nar: "no NAR" }, refused: 400 },
  "PUT /build-requests/source/{upload}/chunk": { query: { offset: "0" }, bytes: new Uint8Array(8) },
  "POST /build-requests/source/{upload}/finalize": { query: ORGANIZATION, body: {}, refused: 404 },
} as const satisfies Readonly<Record<string, Example>>;
