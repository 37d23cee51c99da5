import type { ColumnType, Generated, Selectable } from "kysely";
import type { MailKind } from "../../domain/mail.ts";

type CreatedAt = ColumnType<Date, Date | undefined, never>;

/** A link that is on its way to somebody, or that was not followed yet. */
export interface AccountTokenTable {
  id: string;
  user_id: string;
  /** `TokenPurpose`. */
  purpose: number;
  /** SHA-256 of the token's text; null until the mail with it goes out. */
  token_hash: Uint8Array | null;
  email: string;
  created_at: CreatedAt;
  expires_at: Date;
}

/** A mail that waits to be sent; one that was sent has no row. */
export interface MailTable {
  id: string;
  kind: MailKind;
  user_id: string | null;
  token_id: string | null;
  /** Null until it is known whose `login_name` is. */
  recipient: string | null;
  login_name: string | null;
  created_at: CreatedAt;
  due_at: Generated<Date>;
  attempts: Generated<number>;
  failed_at: Date | null;
  error: string | null;
}
export type MailRow = Selectable<MailTable>;

export interface DeviceLoginTable {
  id: string;
  device_code_hash: Uint8Array;
  user_code: string;
  /** `DeviceLoginStatus`. */
  status: Generated<number>;
  user_id: string | null;
  user_agent: string | null;
  ip: string;
  created_at: CreatedAt;
  expires_at: Date;
}
