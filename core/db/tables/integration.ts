import type { ColumnType, Generated, Selectable } from "kysely";

export interface IntegrationTable {
  id: string;
  organization_id: string;
  /** `IntegrationKind`. */
  kind: number;
  /** `ForgeType`. */
  forge_type: number;
  name: string;
  display_name: string;
  endpoint_url: string | null;
  /** Sealed for this row: what the forge signs with. */
  secret: Uint8Array | null;
  /** Sealed for this row: what the server shows the forge. */
  access_token: Uint8Array | null;
  /** Canonical networks; empty lets every address in. */
  allowed_ips: Generated<string[]>;
  /** Of a GitHub App. */
  installation_id: number | null;
  account_login: string | null;
  managed: Generated<boolean>;
  created_by: string | null;
  created_at: ColumnType<Date, Date | undefined, never>;
}
export type IntegrationRow = Selectable<IntegrationTable>;
