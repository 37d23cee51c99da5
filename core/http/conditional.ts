/** RFC 9110 section 13.1.2: whether the client has this representation already. The comparison is weak. */
export function isNotModified(headers: Headers, etag: string): boolean {
  const known = headers.get("if-none-match");
  if (known === null) return false;
  if (known.trim() === "*") return true;
  return known.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}

/** RFC 9110 section 13.1.5: a range of something else than the client has the rest of would be put together wrongly. */
export function allowsRange(headers: Headers, etag: string): boolean {
  const condition = headers.get("if-range");
  return condition === null || condition.trim() === etag;
}
