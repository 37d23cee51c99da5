import type { ColumnType } from "kysely";

/** Who a user is at the identity provider. */
export interface UserIdentityTable {
  user_id: string;
  issuer: string;
  subject: string;
  linked_at: ColumnType<Date, Date | undefined, Date>;
}

/** A sign-in that came back from the provider. */
export interface OidcReturnTable {
  state_hash: Uint8Array;
  expires_at: Date;
}

/** A membership that holds because of a group at the provider. The row goes when anyone else sets the member's role. */
export interface GroupMembershipTable {
  organization_id: string;
  user_id: string;
  role_id: string;
  /** What the member has without any group; null: nothing. */
  own_role_id: string | null;
}
