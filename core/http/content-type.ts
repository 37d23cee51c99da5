const TEXT = "text/plain; charset=utf-8";

/**
 * By the end of a file's name. A script is plain text: no page may run what a user made, and none of ours can be talked
 * into loading it.
 */
const CONTENT_TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  htm: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  txt: TEXT,
  md: TEXT,
  log: TEXT,
  nix: TEXT,
  conf: TEXT,
  js: TEXT,
  mjs: TEXT,
  sh: TEXT,
  c: TEXT,
  h: TEXT,
  json: "application/json",
  xml: "application/xml",
  svg: "image/svg+xml",
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  ico: "image/x-icon",
  woff: "font/woff",
  woff2: "font/woff2",
  pdf: "application/pdf",
  tar: "application/x-tar",
  gz: "application/gzip",
  xz: "application/x-xz",
  bz2: "application/x-bzip2",
  zst: "application/zstd",
  zip: "application/zip",
};
const UNKNOWN_TYPE = "application/octet-stream";

/** What a browser is told that a file is, by its name alone. */
export function contentTypeOf(fileName: string): string {
  const extension = /\.([A-Za-z0-9]{1,8})$/.exec(fileName)?.[1]?.toLowerCase() ?? "";
  return Object.hasOwn(CONTENT_TYPES, extension) ? (CONTENT_TYPES[extension] as string) : UNKNOWN_TYPE;
}
