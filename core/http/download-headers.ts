/** By the end of a file's name; anything else is bytes. */
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  txt: "text/plain; charset=utf-8",
  json: "application/json",
  tar: "application/x-tar",
  gz: "application/gzip",
  zst: "application/zstd",
  zip: "application/zip",
};
const UNKNOWN_TYPE = "application/octet-stream";
/** What a quoted string may not hold, and what a file system or a shell could take for something else. */
const NOT_PLAIN = /[^A-Za-z0-9 ._+=@,()[\]-]/g;
/** RFC 8187 section 3.2.1: these characters `encodeURIComponent` leaves as they are, and they are not allowed. */
const NOT_ENCODED = /['()*!]/g;

/**
 * For a file that a user made. No browser runs what is in it: the page that shows it has no origin, no scripts and no
 * forms, and its type is not guessed. Only reports (`html`) are shown in place; everything else is saved.
 */
export function downloadHeaders({
  fileName,
  subtype,
  size,
}: {
  readonly fileName: string;
  readonly subtype: string;
  readonly size: number | null;
}): Record<string, string> {
  const extension = fileName.slice(fileName.lastIndexOf(".") + 1).toLowerCase();
  const shown = subtype === "html" && extension !== "zst";
  return {
    "content-type": Object.hasOwn(CONTENT_TYPES, extension) ? (CONTENT_TYPES[extension] ?? UNKNOWN_TYPE) : UNKNOWN_TYPE,
    "content-disposition": `${shown ? "inline" : "attachment"}; ${fileNameParameters(fileName)}`,
    "content-security-policy": "sandbox",
    "x-content-type-options": "nosniff",
    // A report may be shown in a page of ours.
    "x-frame-options": "SAMEORIGIN",
    // The token of the address is not for the pages that a report links to.
    "referrer-policy": "no-referrer",
    ...(size !== null && { "content-length": String(size) }),
  };
}

/** RFC 6266: the plain name for old clients, and the exact one where it differs. */
function fileNameParameters(fileName: string): string {
  const plain = fileName.replace(NOT_PLAIN, "_");
  if (plain === fileName) return `filename="${plain}"`;
  const exact = encodeURIComponent(fileName.toWellFormed()).replace(NOT_ENCODED, percentEncoded);
  return `filename="${plain}"; filename*=UTF-8''${exact}`;
}

function percentEncoded(character: string): string {
  return `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
}
