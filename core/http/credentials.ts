import { fromBase64, fromUtf8Lossy } from "../lib/bytes.ts";
import { isOwnPage, type PageOrigins } from "./page-origin.ts";

export const SESSION_COOKIE = "jwt_token";
const AUTHORIZATION_MAX_LENGTH = 8_192;
/** RFC 9110 section 11.1: the scheme is case-insensitive. */
const BEARER = /^bearer +([^ ]+) *$/i;
const BASIC = /^basic +([^ ]+) *$/i;

/** The token of `Authorization: Bearer`, else that of the session cookie; null when there is neither. */
export function apiToken(headers: Headers): string | null {
  const authorization = headers.get("authorization");
  return authorization ? (match(BEARER, authorization) ?? "") : sessionCookie(headers);
}

/**
 * Whether a request that the session cookie speaks for may change something: it was made by a page of ours, or by no
 * page at all. `SameSite` alone lets every port of the host and every sibling domain through.
 */
export function isOwnPageWrite(request: Request, origins: PageOrigins): boolean {
  const { headers, method } = request;
  if (method === "GET" || method === "HEAD" || headers.has("authorization") || sessionCookie(headers) === null) {
    return true;
  }
  const site = headers.get("sec-fetch-site");
  if (site === "same-origin" || site === "none") return true;
  const origin = headers.get("origin");
  return origin === null ? site === null : isOwnPage(origin, origins);
}

/**
 * What clients of a cache send: the password of `Authorization: Basic` (the user name is not looked at, as in a netrc
 * file) or a Bearer token. Null when no authorization came; empty when it has no form that is known.
 */
export function cacheToken(headers: Headers): string | null {
  const authorization = headers.get("authorization");
  if (!authorization) return null;
  const basic = match(BASIC, authorization);
  if (basic === null) return match(BEARER, authorization) ?? "";
  const bytes = fromBase64(basic);
  const pair = bytes ? fromUtf8Lossy(bytes) : "";
  return pair.includes(":") ? pair.slice(pair.indexOf(":") + 1) : "";
}

/** The session cookie's value; null when there is none. */
export function sessionCookie(headers: Headers): string | null {
  for (const part of (headers.get("cookie") ?? "").split(";")) {
    const pair = part.trim();
    const value = pair.startsWith(`${SESSION_COOKIE}=`) ? pair.slice(SESSION_COOKIE.length + 1) : "";
    if (value) return value;
  }
  return null;
}

function match(pattern: RegExp, text: string): string | null {
  if (text.length > AUTHORIZATION_MAX_LENGTH) return null;
  return pattern.exec(text)?.[1] ?? null;
}
