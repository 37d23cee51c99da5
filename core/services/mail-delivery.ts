import { deleteExpiredAccountTokens, setTokenHash } from "../db/account-tokens.ts";
import { deleteOldDeviceLogins } from "../db/device-logins.ts";
import {
  addressMail,
  type ClaimedMail,
  claimDueMails,
  delayMail,
  deleteFailedMails,
  deleteMail,
  failMail,
  findAddressee,
  findAddresseeByLogin,
} from "../db/mails.ts";
import { inTransaction } from "../db/transaction.ts";
import { lockUserAccount } from "../db/users.ts";
import { type MailKind, mailRetryMs, writeMail } from "../domain/mail.ts";
import { DAY, HOUR, MINUTE } from "../lib/clock.ts";
import { inTime } from "../lib/in-time.ts";
import { type Mailer, MailRefusedError } from "../ports/mailer.ts";
import type { ServiceDeps } from "./deps.ts";
import { hasEnoughMail, hashLinkToken, insertLinkToken, type LinkKind, linkTokenText } from "./mail.ts";

export interface MailDeliveryDeps extends Pick<ServiceDeps, "db" | "clock" | "random" | "log" | "settings"> {
  readonly mailer: Mailer;
}

/** Sent side by side. */
const BATCH = 4;
/** For one mail, whatever the mail server does in that time. */
const SEND_MS: number = 2 * MINUTE;
const LEASE_MS: number = SEND_MS + MINUTE;
const KEEP_FAILED_MS: number = 30 * DAY;
const KEEP_DEVICES_MS: number = HOUR;
/** In one statement. */
const TIDY_ROWS = 1_000;
const ERROR_MAX_LENGTH = 1_000;

type AddressedMail = Pick<ClaimedMail, "id" | "kind" | "token_id"> & {
  readonly recipient: string;
  readonly username: string;
};

/** Sends some of what is due. Returns how many were looked at: fewer than `BATCH` says that no more is due. */
export async function deliverMails(deps: MailDeliveryDeps): Promise<number> {
  const mails = await claimDueMails(deps.db, BATCH, LEASE_MS);
  await Promise.all(mails.map((mail) => deliver(deps, mail)));
  return mails.length;
}

/** Whether all that was claimed at once may be only a part of what is due. */
export function isFullBatch(count: number): boolean {
  return count >= BATCH;
}

/** Removes links and device codes that are too old, and failed mails of a month ago. */
export async function tidyMails({ db }: Pick<MailDeliveryDeps, "db">, signal: AbortSignal): Promise<void> {
  while (!signal.aborted && (await deleteExpiredAccountTokens(db, TIDY_ROWS)) >= TIDY_ROWS);
  while (!signal.aborted && (await deleteFailedMails(db, KEEP_FAILED_MS, TIDY_ROWS)) >= TIDY_ROWS);
  while (!signal.aborted && (await deleteOldDeviceLogins(db, KEEP_DEVICES_MS, TIDY_ROWS)) >= TIDY_ROWS);
}

async function deliver(deps: MailDeliveryDeps, mail: ClaimedMail): Promise<void> {
  const { db, log } = deps;
  try {
    const addressed = mail.login_name === null ? await readAddressee(deps, mail) : await lookUp(deps, mail);
    if (addressed) await send(deps, addressed);
    // Only now: whoever dies before sends it again.
    await deleteMail(db, mail.id);
  } catch (error) {
    const words = (error instanceof Error ? error.message : String(error)).slice(0, ERROR_MAX_LENGTH);
    const pause = error instanceof MailRefusedError ? null : mailRetryMs(mail.attempts, mail.age_ms);
    if (pause === null) {
      await failMail(db, mail.id, words);
      log.error("a mail could not be sent and is given up", { mail: mail.id, kind: mail.kind, error });
    } else {
      await delayMail(db, mail.id, pause, words);
      log.warn("a mail could not be sent; it is tried again", {
        mail: mail.id,
        kind: mail.kind,
        pauseMs: pause,
        error,
      });
    }
  }
}

async function send({ db, clock, mailer, settings }: MailDeliveryDeps, mail: AddressedMail): Promise<void> {
  const { frontendUrl, serveUrl, jwtSecret } = settings;
  let link: string | null = null;
  if (mail.token_id !== null) {
    const token = await linkTokenText(jwtSecret, mail.token_id);
    const hash = await hashLinkToken(token);
    // Too old by now.
    if (!hash || !(await setTokenHash(db, mail.token_id, hash))) return;
    link = linkOf(mail.kind, { frontendUrl, serveUrl, token });
  }
  const text = writeMail(mail.kind, { username: mail.username, frontendUrl, link });
  const sent = mailer.send({ id: mail.id, to: mail.recipient, ...text });
  await inTime(clock, SEND_MS, "the mail server's answer", sent);
}

/** The API answers the link that proves an address by itself; a new password takes a page to type it in. */
function linkOf(
  kind: MailKind,
  { frontendUrl, serveUrl, token }: { readonly frontendUrl: string; readonly serveUrl: string; readonly token: string },
): string {
  return kind === "reset_password"
    ? `${frontendUrl}/account/reset-password?token=${token}`
    : `${serveUrl}/api/v1/auth/verify-email?token=${token}`;
}

async function readAddressee({ db }: MailDeliveryDeps, mail: ClaimedMail): Promise<AddressedMail | null> {
  const user = mail.user_id && (await findAddressee(db, mail.user_id));
  if (!user || mail.recipient === null) return null;
  return { id: mail.id, kind: mail.kind, token_id: mail.token_id, recipient: mail.recipient, username: user.username };
}

/** Null where there is no such user, or nothing to be sent to them. */
async function lookUp(deps: MailDeliveryDeps, mail: ClaimedMail): Promise<AddressedMail | null> {
  const user = await findAddresseeByLogin(deps.db, mail.login_name ?? "");
  if (!user?.active || user.email === "") return null;
  const asked: LinkKind = mail.kind === "reset_password" ? "reset_password" : "verify_address";
  if (asked === "verify_address" && user.email_verified) return null;
  // Who has no password here is told so, as seldom as others get a link; the token counts then, and leads nowhere.
  const kind = asked === "reset_password" && (!user.has_password || user.managed) ? "no_password" : asked;
  return await inTransaction(deps.db, async (trx) => {
    // The same user may be looked up by name and by address at this moment.
    await lockUserAccount(trx, user.id);
    if (await hasEnoughMail(trx, asked, user.id)) return null;
    await insertLinkToken(trx, mail.id, asked, { userId: user.id, email: user.email });
    const token_id = kind === "no_password" ? null : mail.id;
    await addressMail(trx, mail.id, { kind, user_id: user.id, token_id, recipient: user.email });
    return { id: mail.id, kind, token_id, recipient: user.email, username: user.username };
  });
}
