import type { Bytes } from "../lib/bytes.ts";
import { decodeBase32 } from "../nix/base32.ts";
import { parseRealisationId, type RealisationKey } from "../nix/realisation.ts";
import { parseStorePathBaseName, type StorePath } from "../nix/store-path.ts";

/** What a Nix client puts into a cache, checked to the last character. */
export type PutRoute = { readonly cache: string } & (
  | { readonly kind: "info" }
  | { readonly kind: "narinfo"; readonly hash: string }
  /** Nix names the file by its hash, with an ending that says how it is compressed: its bytes are believed instead. */
  | { readonly kind: "nar"; readonly fileHash: Bytes }
  | { readonly kind: "log"; readonly derivation: StorePath }
  | { readonly kind: "realisation"; readonly key: RealisationKey }
  /** What the server makes of the NAR by itself. */
  | { readonly kind: "derived" }
);

const ROUTE = /^\/cache\/([a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?)\/([!-~]{1,1000})$/;
const NARINFO = /^([0-9a-df-np-sv-z]{32})\.narinfo$/;
const NAR = /^nar\/([0-9a-df-np-sv-z]{52})\.nar(?:\.[a-z0-9]{1,5})?$/;
const LOG = /^log\/([^/]{1,300}\.drv)$/;
/** Newer Nix sends the `!` percent-encoded, and what else an output's name may hold. */
const REALISATION = /^realisations\/([^/]{1,700})\.doi$/;
const DERIVED = /^(?:[0-9a-df-np-sv-z]{32}\.ls|debuginfo\/[0-9a-f]{40}(?:\.debug)?)$/;

/** Of a path without its query, not decoded. Null for every other one. */
export function parsePutRoute(path: string): PutRoute | null {
  const [, cache = "", name = ""] = ROUTE.exec(path) ?? [];
  if (name === "nix-cache-info") return { cache, kind: "info" };
  const hash = NARINFO.exec(name)?.[1];
  if (hash !== undefined) return { cache, kind: "narinfo", hash };
  const file = NAR.exec(name)?.[1];
  if (file !== undefined) {
    const fileHash = decodeBase32(file);
    return fileHash && { cache, kind: "nar", fileHash };
  }
  if (DERIVED.test(name)) return { cache, kind: "derived" };
  const id = REALISATION.exec(name)?.[1];
  if (id !== undefined) {
    const key = parseRealisationId(decoded(id));
    return key && { cache, kind: "realisation", key };
  }
  const log = LOG.exec(name)?.[1];
  const derivation = log === undefined ? null : parseStorePathBaseName(log);
  return derivation && { cache, kind: "log", derivation };
}

/** Empty where the percent-encoding is none. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
