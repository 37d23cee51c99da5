import { type Insertable, type Kysely, sql, type Transaction } from "kysely";
import type { MailKind } from "../domain/mail.ts";
import type { Database } from "./schema.ts";
import type { MailRow, MailTable } from "./tables/accounts.ts";
import { databaseNow, databaseNowPlus } from "./time.ts";

export type ClaimedMail = Pick<MailRow, "id" | "kind" | "user_id" | "token_id" | "recipient" | "login_name"> & {
  /** This attempt's number, from 1. */
  readonly attempts: number;
  readonly age_ms: number;
};

export interface MailAddressee {
  readonly id: string;
  readonly username: string;
  readonly email: string;
  readonly email_verified: boolean;
  readonly active: boolean;
  readonly managed: boolean;
  readonly has_password: boolean;
}

export async function insertMail(
  db: Kysely<Database>,
  mail: Pick<Insertable<MailTable>, "id" | "kind" | "user_id" | "token_id" | "recipient">,
): Promise<void> {
  await db.insertInto("mail").values(mail).execute();
}

/** Once for a name, until it is looked up. */
export async function insertAskedMail(
  db: Kysely<Database>,
  mail: { readonly id: string; readonly kind: MailKind; readonly login_name: string },
): Promise<void> {
  await db
    .insertInto("mail")
    .values(mail)
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

/** Whether at least `count` names wait to be looked up. */
export async function manyMailsAreAsked(db: Kysely<Database>, count: number): Promise<boolean> {
  const row = await db
    .selectFrom("mail")
    .select("id")
    .where("login_name", "is not", null)
    .limit(1)
    .offset(count - 1)
    .executeTakeFirst();
  return row !== undefined;
}

/**
 * Mails that are due, for one attempt each. Nobody else claims them for `leaseMs`; whoever dies over one leaves it to
 * be sent by another then.
 */
export async function claimDueMails(db: Kysely<Database>, limit: number, leaseMs: number): Promise<ClaimedMail[]> {
  const { rows } = await sql<ClaimedMail>`
    update mail set attempts = attempts + 1, due_at = ${databaseNowPlus(leaseMs)}
    where id in (
      select id from mail where failed_at is null and due_at <= ${databaseNow}
      order by due_at limit ${limit} for update skip locked)
    returning id, kind, user_id, token_id, recipient, login_name, attempts,
      (extract(epoch from ${databaseNow} - created_at) * 1000)::float8 as age_ms`.execute(db);
  return rows;
}

export async function findAddressee(db: Kysely<Database>, userId: string): Promise<MailAddressee | undefined> {
  return await addressees(db).where("id", "=", userId).executeTakeFirst();
}

/** By user name or e-mail address, either in any case. */
export async function findAddresseeByLogin(
  db: Kysely<Database>,
  loginName: string,
): Promise<MailAddressee | undefined> {
  const column = loginName.includes("@") ? sql`lower(email)` : sql`lower(username)`;
  return await addressees(db).where(sql<boolean>`${column} = lower(${loginName})`).executeTakeFirst();
}

/** It is known now to whom the mail goes and what it says. */
export async function addressMail(
  trx: Transaction<Database>,
  id: string,
  mail: {
    readonly kind: MailKind;
    readonly user_id: string;
    readonly token_id: string | null;
    readonly recipient: string;
  },
): Promise<void> {
  await trx
    .updateTable("mail")
    .set({ ...mail, login_name: null })
    .where("id", "=", id)
    .execute();
}

/** It was sent, or there is nobody to send it to. */
export async function deleteMail(db: Kysely<Database>, id: string): Promise<void> {
  await db.deleteFrom("mail").where("id", "=", id).execute();
}

export async function delayMail(db: Kysely<Database>, id: string, delayMs: number, error: string): Promise<void> {
  await db
    .updateTable("mail")
    .set({ due_at: databaseNowPlus(delayMs), error })
    .where("id", "=", id)
    .execute();
}

/** It is kept for the operator to look at, and not tried again. */
export async function failMail(db: Kysely<Database>, id: string, error: string): Promise<void> {
  await db.updateTable("mail").set({ failed_at: databaseNow, error }).where("id", "=", id).execute();
}

/** `limit` rows at most. Returns how many went. */
export async function deleteFailedMails(db: Kysely<Database>, keepMs: number, limit: number): Promise<number> {
  const { numAffectedRows } = await sql`
    delete from mail where id in (
      select id from mail where failed_at < ${databaseNowPlus(-keepMs)} limit ${limit})`.execute(db);
  return Number(numAffectedRows ?? 0n);
}

function addressees(db: Kysely<Database>) {
  return db
    .selectFrom("user_account")
    .select(["id", "username", "email", "email_verified", "active", "managed"])
    .select((eb) => eb("password_hash", "is not", null).$castTo<boolean>().as("has_password"));
}
