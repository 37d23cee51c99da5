import { deleteAccountTokens, TokenPurpose, takeAccountToken } from "../db/account-tokens.ts";
import { inTransaction } from "../db/transaction.ts";
import { lockUserAccount, updateUser } from "../db/users.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { ActorClient } from "../domain/actor.ts";
import { DomainError } from "../errors.ts";
import { recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { askForMail, hashLinkToken, invalidLink, queueNotice, requireMail } from "./mail.ts";

/**
 * The address that the link was sent to is the user's from now on. Throws `bad_request` for a link that is not good,
 * `conflict` when another account has taken the address meanwhile.
 */
export async function verifyAddress(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "settings">,
  token: string,
  client: ActorClient,
): Promise<void> {
  requireMail(deps);
  const hash = await hashLinkToken(token);
  if (!hash) throw invalidLink();
  await inTransaction(deps.db, async (trx) => {
    const followed = await takeAccountToken(trx, hash, TokenPurpose.ProveAddress);
    if (!followed) throw invalidLink();
    const { user_id: userId, email } = followed;
    // Links to other addresses would take this one away again.
    await deleteAccountTokens(trx, userId, TokenPurpose.ProveAddress);
    const user = await lockUserAccount(trx, userId);
    if (user && user.email.toLowerCase() !== email.toLowerCase()) {
      // It was asked for before the account came under the state file or the identity provider.
      if (user.managed || user.password_hash === null) throw invalidLink();
      await deleteAccountTokens(trx, userId, TokenPurpose.SetPassword);
      await queueNotice(trx, deps, "address_changed", { userId, email: user.email });
    }
    await updateUser(trx, userId, { email, email_verified: true });
    await recordAudit(trx, { event: "user.verify", userId, client, metadata: { email } });
  }).catch((error: unknown) => {
    if (uniqueViolation(error) !== "user_account_email_key") throw error;
    throw new DomainError("conflict", "The address belongs to another account by now: give your account another one");
  });
  deps.notifier.notify("mail", "");
}

/** The same answer whoever is named: a mail goes out only where an account has an address to be shown. */
export async function resendVerification(
  deps: Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "settings">,
  loginName: string,
): Promise<void> {
  requireMail(deps);
  await askForMail(deps, "verify_address", loginName);
}
