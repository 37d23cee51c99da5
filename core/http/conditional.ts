/** RFC 9110 section 13.1.2: whether the client has this representation already. The comparison is weak. */
export function isNotModified(headers: Headers, etag: string): boolean {
  const known = headers.get("if-none-match");
  return known !== null && isKnown(known, etag);
}

/** As `isNotModified`, of the header's value. */
export function isKnown(ifNoneMatch: string, etag: string): boolean {
  if (ifNoneMatch.trim() === "*") return true;
  return ifNoneMatch.split(",").some((tag) => tag.trim().replace(/^W\//, "") === etag);
}

/** RFC 9110 section 13.1.5: a range of something else than the client has the rest of would be put together wrongly. */
export function allowsRange(headers: Headers, etag: string): boolean {
  const condition = headers.get("if-range");
  return condition === null || condition.trim() === etag;
}

const CODINGS_MAX = 32;

/** RFC 9110 section 12.5.3: whether the client asks for this coding. Without the header it is sent none. */
export function acceptsCoding(headers: Headers, coding: string): boolean {
  let any = false;
  for (const part of (headers.get("accept-encoding") ?? "").toLowerCase().split(",", CODINGS_MAX)) {
    const [name = "", ...parameters] = part.split(";").map((text) => text.trim());
    const isRefused = parameters.some((parameter) => /^q=0(\.0{0,3})?$/.test(parameter));
    if (name === coding) return !isRefused;
    if (name === "*") any = !isRefused;
  }
  return any;
}
