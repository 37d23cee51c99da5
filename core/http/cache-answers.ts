import { DomainError } from "../errors.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import { failure, NOT_FOUND } from "./envelope.ts";

/** A path can be pushed at any moment: nobody may keep the answer that it is not there. */
const NO_STORE = "no-store";
const PRIVATE = "private, no-store";
const YEAR_SECONDS = 365 * 24 * 3_600;

const NOT_FOUND_BODY = JSON.stringify(failure(NOT_FOUND));
const CHALLENGE_BODY = envelope("unauthorized", "This cache needs credentials: a token or API key as the password");
const METHOD_BODY = envelope("bad_request", "Caches are read with GET and HEAD");
const UNAVAILABLE_BODY = envelope("service_unavailable", "The cache cannot answer now: try again");

/** One second: a proxy may spread a burst, and what was found damaged is gone a second later. */
export function shortCacheControl(cache: ServedCache): string {
  return cache.public ? "public, max-age=1" : PRIVATE;
}

/** For bodies whose name is their hash. */
export function immutableCacheControl(cache: ServedCache): string {
  return cache.public ? `public, max-age=${YEAR_SECONDS}, immutable` : PRIVATE;
}

export function notFound(): Response {
  return envelopeResponse(404, NOT_FOUND_BODY);
}

/** RFC 7617. The same for every name that is not a public cache's. */
export function challenge(): Response {
  return envelopeResponse(401, CHALLENGE_BODY, { "www-authenticate": 'Basic realm="gradient"' });
}

export function methodNotAllowed(): Response {
  return envelopeResponse(405, METHOD_BODY, { allow: "GET, HEAD" });
}

export function unavailable(): Response {
  return envelopeResponse(503, UNAVAILABLE_BODY, { "retry-after": "5" });
}

export function notModified(etag: string, cacheControl: string): Response {
  return new Response(null, { status: 304, headers: { etag, "cache-control": cacheControl } });
}

/** The same answer without its body, for HEAD. */
export function withoutBody(response: Response): Response {
  return new Response(null, { status: response.status, headers: response.headers });
}

function envelope(code: "unauthorized" | "bad_request" | "service_unavailable", message: string): string {
  return JSON.stringify(failure(new DomainError(code, message)));
}

function envelopeResponse(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: { "content-type": "application/json", "cache-control": NO_STORE, ...headers },
  });
}
