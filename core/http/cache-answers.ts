import { DomainError } from "../errors.ts";
import type { ServedCache } from "../services/cache-lookup.ts";
import { failure, NOT_FOUND } from "./envelope.ts";
import { API_HEADERS } from "./security-headers.ts";

/** A path can be pushed at any moment: nobody may keep the answer that it is not there. */
const NO_STORE = "no-store";
export const PRIVATE = "private, no-store";
const YEAR_SECONDS = 365 * 24 * 3_600;
/** What users made runs nowhere: the page that shows it has no origin, and its type is not guessed. */
export const USER_MADE = {
  "content-security-policy": "sandbox",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
} as const;
/** A browser that is sent it takes it for what it says that it is. */
export const NOT_GUESSED = { "x-content-type-options": "nosniff" } as const;
/** Pages of others may read what needs no credentials. */
export const FOR_ANY_PAGE = { "access-control-allow-origin": "*" } as const;

const NOT_FOUND_BODY = JSON.stringify(failure(NOT_FOUND));
const CHALLENGE_BODY = envelope("unauthorized", "This cache needs credentials: a token or API key as the password");
const METHOD_BODY = envelope("method_not_allowed", "This address of a cache is read with GET and HEAD");
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

export function notModified(
  etag: string,
  cacheControl: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(null, { status: 304, headers: { ...headers, etag, "cache-control": cacheControl } });
}

/** `body`: ASCII. */
export function text(
  body: string,
  contentType: string,
  cacheControl: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const own = { "content-type": contentType, "content-length": String(body.length), "cache-control": cacheControl };
  return new Response(body, { headers: { ...NOT_GUESSED, ...headers, ...own } });
}

/** `value`: of ASCII alone. */
export function json(value: object, cacheControl: string): Response {
  return text(JSON.stringify(value), "application/json", cacheControl, FOR_ANY_PAGE);
}

/** The same answer without its body, for HEAD. */
export function withoutBody(response: Response): Response {
  // What it would have read from is let go; whether that fails is of no interest to who asked for no body.
  response.body?.cancel().catch(() => {});
  return new Response(null, { status: response.status, headers: response.headers });
}

function envelope(code: "unauthorized" | "method_not_allowed" | "service_unavailable", message: string): string {
  return JSON.stringify(failure(new DomainError(code, message)));
}

function envelopeResponse(status: number, body: string, headers: Record<string, string> = {}): Response {
  return new Response(body, {
    status,
    headers: {
      ...API_HEADERS,
      "content-type": "application/json",
      // Said, so that it is there for HEAD too.
      "content-length": String(body.length),
      "cache-control": NO_STORE,
      ...headers,
    },
  });
}
