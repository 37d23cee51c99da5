import { type RawBuilder, sql, type Transaction } from "kysely";
import type { Database } from "./schema.ts";

/** What people are members of, in roles: organizations and caches. Their tables are alike. */
export interface RealmTables {
  readonly realm: RawBuilder<unknown>;
  readonly roles: RawBuilder<unknown>;
  readonly members: RawBuilder<unknown>;
  /** The column that points to the realm, in both of the latter. */
  readonly realmId: RawBuilder<unknown>;
}

export interface Realm {
  readonly tables: RealmTables;
  readonly id: string;
}

export const ORGANIZATION_TABLES: RealmTables = {
  realm: sql.table("organization"),
  roles: sql.table("role"),
  members: sql.table("organization_member"),
  realmId: sql.ref("organization_id"),
};

export const CACHE_TABLES: RealmTables = {
  realm: sql.table("cache"),
  roles: sql.table("cache_role"),
  members: sql.table("cache_member"),
  realmId: sql.ref("cache_id"),
};

/**
 * Until the transaction ends nobody else changes the realm's roles and members: two changes never overlap, and each
 * sees what the other left.
 */
export async function lockRealm(trx: Transaction<Database>, { tables, id }: Realm): Promise<void> {
  await sql`select from ${tables.realm} where id = ${id} for no key update`.execute(trx);
}
