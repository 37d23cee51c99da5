/** An answer made of memory alone, for a runtime that can send it without a `Response`. */
export interface PlainAnswer {
  /** place: where a NAR lies, for the proxy before us. */
  readonly kind: "narinfo" | "nar" | "place";
  readonly status: 200 | 204 | 304;
  /** Names and values in turn. */
  readonly headers: string[];
  /** ASCII, or bytes that nobody may change. Empty where the answer has no body. */
  readonly body: string | Uint8Array;
}

/** What is looked at for one. */
export interface PlainRequest {
  readonly method: string | undefined;
  /** As it stands in the request's first line. */
  readonly target: string | undefined;
  readonly ifNoneMatch: string | undefined;
  readonly range: string | undefined;
  /** What a proxy says of itself: `PROXY_HEADER`. */
  readonly sendfileType: string | undefined;
}

/** How all targets of caches begin. */
export const CACHE_PREFIX = "/cache/";
