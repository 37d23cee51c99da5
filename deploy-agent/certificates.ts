import { readFileSync } from "node:fs";
import { getCACertificates } from "node:tls";
import { type DeploySettings, SettingsError } from "./read-settings.ts";

/** Those of the file beside the usual ones; null where there is no file or no need. Throws `SettingsError`. */
export function extraCertificates({
  caFile,
  server,
}: Pick<DeploySettings, "caFile" | "server">): readonly string[] | null {
  if (caFile === null || !server.startsWith("https:")) return null;
  try {
    return [...getCACertificates("default"), readFileSync(caFile, "utf8")];
  } catch (error) {
    throw new SettingsError([`the certificates of ${caFile} cannot be read: ${(error as Error).message}`]);
  }
}
