import type { Kysely } from "kysely";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import { fromUtf8 } from "../lib/bytes.ts";
import type { SecretBox } from "./secret-box.ts";

/** The text of the private key that an organization's repositories know. Throws when it is gone or does not open. */
export type SshKeyOf = (organizationId: string) => Promise<string>;

export function createSshKeys(db: Kysely<Database>, secrets: SecretBox): SshKeyOf {
  return async (id) => {
    const row = await db.selectFrom("organization").select("ssh_secret_key").where("id", "=", id).executeTakeFirst();
    if (!row) throw new DomainError("not_found", "the organization is gone");
    return fromUtf8(await secrets.open({ table: "organization", column: "ssh_secret_key", id }, row.ssh_secret_key));
  };
}
