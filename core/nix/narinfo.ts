import { formatHash, type Hash, type HashAlgorithm, parseHash } from "./hash.ts";
import { parseStorePath, parseStorePathBaseName, type StorePath, storePathBaseName } from "./store-path.ts";

/** What a binary cache says about one path. */
export interface NarInfo {
  readonly storePath: StorePath;
  /** Of the NAR file: relative to the cache, or absolute. */
  readonly url: string;
  /** The name as it was written; unknown ones are passed on. */
  readonly compression: string;
  /** Of the compressed file. Nix does not check it. */
  readonly fileHash: Hash | null;
  readonly fileSize: number | null;
  /** Of the NAR before compression: this is what is signed. SHA-256, but see `parseForeignNarInfo`. */
  readonly narHash: Hash;
  readonly narSize: number;
  /** In the order of the file, each once; a path may name itself. */
  readonly references: readonly StorePath[];
  readonly deriver: StorePath | null;
  /** `name:base64` each; `verify` decides whether they are any good. */
  readonly signatures: readonly string[];
  /** How the path is addressed by its content, as Nix wrote it (`fixed:r:sha256:…`, `text:sha256:…`). */
  readonly ca: string | null;
}

/** The text is no narinfo, or one beyond the limits. */
export class NarInfoParseError extends Error {
  override readonly name = "NarInfoParseError";
}

/** About 30 000 references of 60 characters. The largest closures of nixpkgs have paths with some hundred. */
export const NARINFO_BYTES_MAX: number = 2 * 1024 * 1024;
const LINES_MAX = 256;
const REFERENCES_MAX = 20_000;
const SIGNATURES_MAX = 64;
const VALUE_LENGTH_MAX = 4096;
/** What Nix assumes when the field is not there. */
const COMPRESSION_DEFAULT = "bzip2";
const REPEATABLE = "Sig";
const FIELDS = new Set([
  "StorePath",
  "URL",
  "Compression",
  "FileHash",
  "FileSize",
  "NarHash",
  "NarSize",
  "References",
  "Deriver",
  REPEATABLE,
  "CA",
]);

/**
 * Reads a narinfo as Nix does: the order of fields is free, unknown fields are passed over, the last line needs its
 * line break, and carriage returns are refused. Throws `NarInfoParseError`.
 */
export function parseNarInfo(text: string): NarInfo {
  return readNarInfo(text, ["sha256"]);
}

/** As `parseNarInfo`, for caches that were written with BLAKE3: `narHash` may be one then. */
export function parseForeignNarInfo(text: string): NarInfo {
  return readNarInfo(text, ["sha256", "blake3"]);
}

function readNarInfo(text: string, narHashes: readonly HashAlgorithm[]): NarInfo {
  const { values, signatures } = readFields(text);
  const required = (name: string) => values.get(name) ?? fail(`the field ${name} is missing`);
  const narSize = readSize("NarSize", required("NarSize"));
  if (narSize === 0) fail("NarSize is 0");
  const narHash = readHash("NarHash", required("NarHash"));
  if (!narHashes.includes(narHash.algorithm)) fail("NarHash is not a SHA-256");
  const fileHash = values.get("FileHash");
  const fileSize = values.get("FileSize");
  return {
    storePath: parseStorePath(required("StorePath")) ?? fail("StorePath is no store path"),
    url: readWord("URL", required("URL")),
    compression: readWord("Compression", values.get("Compression") ?? COMPRESSION_DEFAULT),
    fileHash: fileHash === undefined ? null : readHash("FileHash", fileHash),
    fileSize: fileSize === undefined ? null : readSize("FileSize", fileSize),
    narHash,
    narSize,
    references: readReferences(values.get("References") ?? ""),
    deriver: readDeriver(values.get("Deriver")),
    signatures,
    ca: readContentAddress(values.get("CA")),
  };
}

/** The text that Nix writes: its order of fields, references sorted, `References:` also when there are none. */
export function printNarInfo(info: NarInfo): string {
  const references = [...new Set(info.references)].map(storePathBaseName).sort();
  const lines = [`StorePath: ${info.storePath}`, `URL: ${info.url}`, `Compression: ${info.compression}`];
  if (info.fileHash) lines.push(`FileHash: ${formatHash(info.fileHash, "nix32")}`);
  if (info.fileSize !== null) lines.push(`FileSize: ${info.fileSize}`);
  lines.push(`NarHash: ${formatHash(info.narHash, "nix32")}`, `NarSize: ${info.narSize}`);
  lines.push(`References: ${references.join(" ")}`);
  if (info.deriver) lines.push(`Deriver: ${storePathBaseName(info.deriver)}`);
  for (const signature of info.signatures) lines.push(`Sig: ${signature}`);
  if (info.ca !== null) lines.push(`CA: ${info.ca}`);
  return `${lines.join("\n")}\n`;
}

function readFields(text: string): { values: Map<string, string>; signatures: string[] } {
  if (text.length > NARINFO_BYTES_MAX) fail(`larger than ${NARINFO_BYTES_MAX} bytes`);
  if (!text.endsWith("\n")) fail("the last line has no line break: it may be cut off");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the point
  if (/[\0-\x09\x0b-\x1f\x7f]/.test(text)) fail("it holds a control character");
  const lines = text.slice(0, -1).split("\n");
  if (lines.length > LINES_MAX) fail(`more than ${LINES_MAX} lines`);
  const values = new Map<string, string>();
  const signatures: string[] = [];
  for (const [index, line] of lines.entries()) {
    const match = /^([^: ]{1,64}): (.*)$/.exec(line);
    if (!match) fail(`line ${index + 1} is not of the form "Name: value"`);
    const [, name = "", value = ""] = match;
    if (!FIELDS.has(name)) continue;
    if (name !== "References" && value.length > VALUE_LENGTH_MAX) fail(`${name} is too long`);
    if (name === REPEATABLE) signatures.push(readSignature(value));
    else if (values.has(name)) fail(`${name} is there twice`);
    else values.set(name, value);
  }
  if (signatures.length > SIGNATURES_MAX) fail(`more than ${SIGNATURES_MAX} signatures`);
  return { values, signatures };
}

function readSize(name: string, value: string): number {
  const size = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN;
  return Number.isSafeInteger(size) ? size : fail(`${name} is no size in bytes`);
}

function readHash(name: string, value: string): Hash {
  return parseHash(value) ?? fail(`${name} is no hash`);
}

function readWord(name: string, value: string): string {
  return /^\S+$/.test(value) ? value : fail(`${name} is empty or holds a space`);
}

function readReferences(value: string): StorePath[] {
  const names = value.split(" ").filter((name) => name !== "");
  if (names.length > REFERENCES_MAX) fail(`more than ${REFERENCES_MAX} references`);
  const paths = names.map((name) => parseStorePathBaseName(name) ?? fail("a reference is no store path's base name"));
  return [...new Set(paths)];
}

function readDeriver(value: string | undefined): StorePath | null {
  if (value === undefined || value === "" || value === "unknown-deriver") return null;
  return parseStorePathBaseName(value) ?? fail("Deriver is no store path's base name");
}

/** Whether it has the form `name:base64` of a signature that `parseNarInfo` takes. Says nothing of its validity. */
export function isSignatureText(text: string): boolean {
  return /^[^\s:]+:\S+$/.test(text);
}

function readSignature(value: string): string {
  return isSignatureText(value) ? value : fail("a signature is not of the form name:base64");
}

function readContentAddress(value: string | undefined): string | null {
  if (value === undefined || value === "") return null;
  return /^[!-~]+$/.test(value) ? value : fail("CA holds a character that no content address has");
}

function fail(message: string): never {
  throw new NarInfoParseError(`narinfo: ${message}`);
}
