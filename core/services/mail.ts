import type { Transaction } from "kysely";
import { ACCOUNT_TOKENS_MAX, countAccountTokens, insertAccountToken, TokenPurpose } from "../db/account-tokens.ts";
import { insertAskedMail, insertMail, manyMailsAreAsked } from "../db/mails.ts";
import type { Database } from "../db/schema.ts";
import { ADDRESS_LINK_MS, PASSWORD_LINK_MS } from "../domain/mail.ts";
import { DomainError } from "../errors.ts";
import { type Bytes, toHex, utf8 } from "../lib/bytes.ts";
import { MINUTE } from "../lib/clock.ts";
import { hmacKey } from "../lib/hmac.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ServiceDeps } from "./deps.ts";

/** Names that wait to be looked up: more than people forget at a time, and less than a disk minds. */
const ASKED_MAX = 10_000;
/** Longer than any user name or address. */
const LOGIN_NAME_MAX_LENGTH = 254;
/** Between two mails of one kind to one user. */
const PAUSE_MS: number = MINUTE;
const TOKEN = /^[0-9a-f]{64}$/;

type QueueDeps = Pick<ServiceDeps, "clock" | "random">;

export interface Recipient {
  readonly userId: string;
  readonly email: string;
}

/**
 * A mail that tells something. It is a row of the transaction that makes it true, and goes out after the commit.
 * Users without an address get none.
 */
export async function queueNotice(
  trx: Transaction<Database>,
  { clock, random }: QueueDeps,
  kind: "password_changed" | "address_asked" | "address_changed",
  { userId, email }: Recipient,
): Promise<void> {
  if (email === "") return;
  await insertMail(trx, { id: uuidV7(clock.now(), random), kind, user_id: userId, token_id: null, recipient: email });
}

/** A mail with a link that shows whose the address is. Following it makes the address the user's. */
export async function queueAddressLink(
  trx: Transaction<Database>,
  { clock, random }: QueueDeps,
  { userId, email }: Recipient,
): Promise<void> {
  const id = uuidV7(clock.now(), random);
  await insertLinkToken(trx, id, "verify_address", { userId, email });
  await insertMail(trx, { id, kind: "verify_address", user_id: userId, token_id: id, recipient: email });
}

export type LinkKind = "verify_address" | "reset_password";

/** Starts the token that the mail's link will hold. */
export async function insertLinkToken(
  trx: Transaction<Database>,
  id: string,
  kind: LinkKind,
  { userId, email }: Recipient,
): Promise<void> {
  const lifetimeMs = kind === "reset_password" ? PASSWORD_LINK_MS : ADDRESS_LINK_MS;
  await insertAccountToken(trx, { id, user_id: userId, purpose: purposeOf(kind), email }, lifetimeMs);
}

/** Whether such a mail would be one too many: within a minute of another, or the sixth while the first is good. */
export async function hasEnoughMail(trx: Transaction<Database>, kind: LinkKind, userId: string): Promise<boolean> {
  const { live, recent } = await countAccountTokens(trx, { userId, purpose: purposeOf(kind) }, PAUSE_MS);
  return recent > 0 || live >= ACCOUNT_TOKENS_MAX;
}

function purposeOf(kind: LinkKind): TokenPurpose {
  return kind === "reset_password" ? TokenPurpose.SetPassword : TokenPurpose.ProveAddress;
}

/**
 * A mail that somebody wants who is not signed in. Whether there is such a user is found out when the mail is sent, so
 * that the request is the same work whoever is named. Throws `service_unavailable` when too many wait.
 */
export async function askForMail(
  { db, clock, random, notifier }: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier">,
  kind: LinkKind,
  loginName: string,
): Promise<void> {
  const login_name = loginName.trim();
  if (login_name === "" || login_name.length > LOGIN_NAME_MAX_LENGTH) return;
  if (await manyMailsAreAsked(db, ASKED_MAX)) {
    throw new DomainError("service_unavailable", "Too many people ask for mails just now: try again in a few minutes");
  }
  const id = uuidV7(clock.now(), random);
  await insertAskedMail(db, { id, kind, login_name });
  notifier.notify("mail", "");
}

/**
 * What a link holds: it follows from the token's id and the JWT secret, so no row has it and every attempt to send the
 * mail makes the same. The words before the id are in no signed JWT.
 */
export async function linkTokenText(jwtSecret: Bytes, id: string): Promise<string> {
  const key = await hmacKey(jwtSecret);
  return toHex(new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(`account link ${id}`))));
}

/** What rows keep of it. Null for what is no token's text. */
export async function hashLinkToken(text: string): Promise<Bytes | null> {
  const token = text.trim().toLowerCase();
  if (!TOKEN.test(token)) return null;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(token)));
}

/** Throws `bad_request` where the server sends no mail. */
export function requireMail({ settings }: Pick<ServiceDeps, "settings">): void {
  if (settings.mail) return;
  throw new DomainError("bad_request", "This server sends no mail: ask its operator");
}

/** For a link that is unknown, used, or too old: the three look alike. */
export function invalidLink(): DomainError {
  return new DomainError(
    "bad_request",
    "token: the link is not valid any more, or was used already: ask for a new one",
  );
}
