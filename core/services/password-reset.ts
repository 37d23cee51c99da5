import {
  deleteAccountTokens,
  deleteLinksToOtherAddresses,
  findAccountToken,
  TokenPurpose,
  takeAccountToken,
} from "../db/account-tokens.ts";
import { deleteDevicesOf } from "../db/device-logins.ts";
import { revokeOtherSessions } from "../db/sessions.ts";
import { inTransaction } from "../db/transaction.ts";
import { lockUserAccount, updateUser } from "../db/users.ts";
import type { ActorClient } from "../domain/actor.ts";
import { requirePassword } from "../domain/passwords.ts";
import { recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { askForMail, hashLinkToken, invalidLink, queueNotice, requireMail } from "./mail.ts";
import { requirePasswords } from "./password-mode.ts";

/** The same answer and the same work whoever is named: see `askForMail`. */
export async function requestPasswordReset(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "settings">,
  loginName: string,
): Promise<void> {
  requireMail(deps);
  requirePasswords(deps);
  await askForMail(deps, "reset_password", loginName);
}

/**
 * Sets the password of the link's user, once, and ends all their sessions. Reading the mail has shown that the address
 * is theirs, too. Throws `bad_request` for a link that is not good, `invalid_password` (the link stays good then).
 */
export async function confirmPasswordReset(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "passwords" | "notifier" | "settings">,
  { token, password }: { readonly token: string; readonly password: string },
  client: ActorClient,
): Promise<void> {
  requireMail(deps);
  requirePasswords(deps);
  const { db, passwords, notifier } = deps;
  const hash = await hashLinkToken(token);
  // Before anything dear is done: guesses cost no hash of a password.
  if (!hash || !(await findAccountToken(db, hash, TokenPurpose.SetPassword))) throw invalidLink();
  requirePassword(password);
  const password_hash = await passwords.hash(password);
  await inTransaction(db, async (trx) => {
    const followed = await takeAccountToken(trx, hash, TokenPurpose.SetPassword);
    if (!followed) throw invalidLink();
    const user = await lockUserAccount(trx, followed.user_id);
    if (!user?.active || user.managed || user.password_hash === null) throw invalidLink();
    // Whoever had the old address may read the link: it is for the address the user has.
    if (user.email.toLowerCase() !== followed.email.toLowerCase()) throw invalidLink();
    await updateUser(trx, user.id, { password_hash, email_verified: true });
    await deleteAccountTokens(trx, user.id, TokenPurpose.SetPassword);
    await deleteLinksToOtherAddresses(trx, user.id);
    const sessions = await revokeOtherSessions(trx, user.id, null);
    await deleteDevicesOf(trx, user.id);
    await queueNotice(trx, deps, "password_changed", { userId: user.id, email: user.email });
    await recordAudit(trx, { event: "user.password_reset", userId: user.id, client, metadata: { sessions } });
  });
  notifier.notify("mail", "");
}
