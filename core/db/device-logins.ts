import { type Insertable, type Kysely, sql } from "kysely";
import type { Database } from "./schema.ts";
import type { DeviceLoginTable } from "./tables/accounts.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export const DeviceLoginStatus = { Pending: 0, Authorized: 1, Denied: 2, Used: 3 } as const;

export interface WaitingDevice {
  readonly user_code: string;
  readonly user_agent: string | null;
  readonly ip: string;
  readonly expires_at: Date;
}

/** Fails on `device_login_user_code_key`. */
export async function insertDeviceLogin(
  db: Kysely<Database>,
  login: Pick<Insertable<DeviceLoginTable>, "id" | "device_code_hash" | "user_code" | "user_agent" | "ip">,
  lifetimeMs: number,
): Promise<void> {
  await db
    .insertInto("device_login")
    .values({ ...login, expires_at: databaseNowPlus(lifetimeMs) })
    .execute();
}

/** How many of the codes are good, `max` at most. */
export async function countDeviceLogins(db: Kysely<Database>, max: number): Promise<number> {
  const good = db.selectFrom("device_login").select("id").where("expires_at", ">", databaseNow).limit(max).as("good");
  const { total } = await db.selectFrom(good).select(sql<number>`count(*)::int`.as("total")).executeTakeFirstOrThrow();
  return total;
}

export async function findWaitingDevice(db: Kysely<Database>, userCode: string): Promise<WaitingDevice | undefined> {
  return await db
    .selectFrom("device_login")
    .select(["user_code", "user_agent", "ip", "expires_at"])
    .where("user_code", "=", userCode)
    .where("status", "=", DeviceLoginStatus.Pending)
    .where("expires_at", ">", databaseNow)
    .executeTakeFirst();
}

/** The first answer counts: undefined when the code waits for none. */
export async function answerDevice(
  db: Kysely<Database>,
  userCode: string,
  { status, userId }: { readonly status: number; readonly userId: string },
): Promise<WaitingDevice | undefined> {
  return await db
    .updateTable("device_login")
    .set({ status, user_id: userId })
    .where("user_code", "=", userCode)
    .where("status", "=", DeviceLoginStatus.Pending)
    .where("expires_at", ">", databaseNow)
    .returning(["user_code", "user_agent", "ip", "expires_at"])
    .executeTakeFirst();
}

/** Who has let the device in, for the first that asks. */
export async function takeAuthorizedDevice(db: Kysely<Database>, codeHash: Uint8Array): Promise<string | undefined> {
  const row = await db
    .updateTable("device_login")
    .set({ status: DeviceLoginStatus.Used })
    .where("device_code_hash", "=", codeHash)
    .where("status", "=", DeviceLoginStatus.Authorized)
    .where("expires_at", ">", databaseNow)
    .returning("user_id")
    .executeTakeFirst();
  return row?.user_id ?? undefined;
}

export async function findDeviceStatus(
  db: Kysely<Database>,
  codeHash: Uint8Array,
): Promise<{ readonly status: number; readonly expired: boolean } | undefined> {
  return await db
    .selectFrom("device_login")
    .select("status")
    .select((eb) => eb("expires_at", "<=", databaseNow).$castTo<boolean>().as("expired"))
    .where("device_code_hash", "=", codeHash)
    .executeTakeFirst();
}

/** Devices that the user has let in and that have not asked since. */
export async function deleteDevicesOf(db: Kysely<Database>, userId: string): Promise<void> {
  await db.deleteFrom("device_login").where("user_id", "=", userId).execute();
}

/**
 * What is over for `keepMs`, `limit` rows at most: until then a client is told that its code is too old. Returns how
 * many went.
 */
export async function deleteOldDeviceLogins(db: Kysely<Database>, keepMs: number, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from device_login where id in (
      select id from device_login where expires_at < ${databaseNowPlus(-keepMs)} limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
}
