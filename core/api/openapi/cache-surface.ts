/** What Nix asks of a cache, below `/cache/{cache}/`. It is no envelope: Nix has formats of its own. */
export interface CacheFile {
  /** Below the cache, with names in braces. */
  readonly path: string;
  readonly summary: string;
  readonly contentType: string;
  /** What a client that pushes sends there; absent: it sends nothing. */
  readonly put?: string;
}

/** What stands in the paths, each with a value of its form. */
export const CACHE_FILE_PARAMETERS: Readonly<
  Record<string, { readonly description: string; readonly example: string }>
> = {
  hash: { description: "The 32 characters of a store path's hash.", example: "0".repeat(32) },
  fileHash: { description: "The SHA-256 of a file, in base 32 of Nix.", example: "0".repeat(52) },
  upstream: { description: "The upstream's id.", example: "01890000-0000-7000-8000-000000000000" },
  rest: { description: "A path of as many segments as there are.", example: "bin/tool" },
  derivation: { description: "The base name of a derivation.", example: `${"0".repeat(32)}-app.drv` },
  realisation: { description: "A derivation's hash, `!` and an output.", example: `sha256:${"0".repeat(64)}!out` },
  buildId: { description: "The build id of an executable: 40 hexadecimal digits.", example: "0".repeat(40) },
};

const NAR = "application/x-nix-nar";
const JSON_TYPE = "application/json";

export const CACHE_FILES: readonly CacheFile[] = [
  {
    path: "nix-cache-info",
    summary: "Describe the cache to Nix",
    contentType: "text/x-nix-cache-info",
    put: "Looked at and left as it is.",
  },
  {
    path: "gradient-cache-info",
    summary: "Describe the server to another one",
    contentType: "text/x-gradient-cache-info",
  },
  {
    path: "{hash}.narinfo",
    summary: "Describe a path",
    contentType: "text/x-nix-narinfo",
    put: "A narinfo whose NAR has arrived.",
  },
  {
    path: "nar/{fileHash}.nar.zst",
    summary: "Read a NAR",
    contentType: NAR,
    put: "A NAR, compressed or not: what it is decides, and not the ending of the name.",
  },
  { path: "nar/upstream/{upstream}/{rest}", summary: "Read a NAR of an upstream", contentType: NAR },
  {
    path: "{hash}.ls",
    summary: "List the files of a path",
    contentType: JSON_TYPE,
    put: "Left aside: it is made here.",
  },
  { path: "ls/{hash}", summary: "List the files of a path", contentType: JSON_TYPE },
  { path: "serve/{hash}/{rest}", summary: "Read one file of a path", contentType: "application/octet-stream" },
  {
    path: "log/{derivation}",
    summary: "Read the log of a build",
    contentType: "text/plain",
    put: "The log, compressed or not.",
  },
  {
    path: "realisations/{realisation}.doi",
    summary: "Say what a content-addressed output became",
    contentType: JSON_TYPE,
    put: "A signed realisation.",
  },
  { path: "debuginfo/{buildId}", summary: "Find debug information", contentType: JSON_TYPE },
];
