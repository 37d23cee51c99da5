import { readFileSync } from "node:fs";
import { getCACertificates } from "node:tls";

/** Those of a file beside the usual ones; null where there is no file. Throws when it is named and cannot be read. */
export function extraCertificates(path: string | null): readonly string[] | null {
  if (path === null) return null;
  return [...getCACertificates("default"), readFileSync(path, "utf8")];
}
