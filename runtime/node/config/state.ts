import { resolve } from "node:path";
import type { EnvironmentReader } from "./reader.ts";

/** Which things the operator has declared for the server to have. */
export interface StateSettings {
  /** Null: nothing is declared, and what was declared before stays as it is. */
  readonly file: string | null;
  /** What is not declared any more is deleted; otherwise people may change it from then on. */
  readonly deleteUnlisted: boolean;
  /** Where systemd puts secrets. A secret that is not there is read where the file says that it is. */
  readonly credentialsFolder: string;
}

export function readStateSettings(reader: EnvironmentReader): StateSettings {
  const file = reader.text("GRADIENT_STATE_FILE");
  return {
    file: file === null ? null : resolve(file),
    deleteUnlisted: reader.boolean("GRADIENT_DELETE_STATE", true),
    credentialsFolder: resolve(reader.text("GRADIENT_CREDENTIALS_DIR") ?? "/run/credentials/gradient-server"),
  };
}
