import type { Transaction } from "kysely";
import type { ChangePasswordBody, ChangeSettingsBody, FoundUserView, SettingsView } from "../api/user.ts";
import { deleteAccountTokens, deleteLinksToOtherAddresses, TokenPurpose } from "../db/account-tokens.ts";
import { deleteDevicesOf } from "../db/device-logins.ts";
import { usernameIsAwaited } from "../db/identities.ts";
import type { Database } from "../db/schema.ts";
import { revokeOtherSessions } from "../db/sessions.ts";
import { inTransaction } from "../db/transaction.ts";
import {
  emailIsTaken,
  findUserAccount,
  lockUserAccount,
  searchUsers,
  type UserAccount,
  type UserChanges,
  updateUser,
} from "../db/users.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { requireDisplayName, requireEmail, requireUsername } from "../domain/names.ts";
import { isPasswordLength, requirePassword } from "../domain/passwords.ts";
import { DomainError } from "../errors.ts";
import { auditAuthor, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { hasEnoughMail, queueAddressLink, queueNotice } from "./mail.ts";
import { requirePasswords } from "./password-mode.ts";
import { usernameTaken, userTaken } from "./registration.ts";
import { requireSignedIn, requireWholeUser } from "./sessions.ts";

const FOUND_MAX = 10;

type SettingsDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "settings" | "notifier">;

export async function getSettings({ db }: Pick<ServiceDeps, "db">, actor: Actor): Promise<SettingsView> {
  const user = await findUserAccount(db, requireWholeUser(actor).id);
  if (!user) throw gone();
  const { username, name, email, email_verified, managed } = user;
  return { username, name, email, email_verified, is_oidc: user.password_hash === null, managed };
}

/** Ten at most, those whose user name begins with the text first. Nobody's address is told. */
export async function findUsers({ db }: Pick<ServiceDeps, "db">, actor: Actor, text: string): Promise<FoundUserView[]> {
  requireUser(actor);
  return await searchUsers(db, text.trim(), FOUND_MAX);
}

/**
 * What was done, in words. A new address takes the password where the server sends mails. Where addresses are to be
 * verified, it becomes the user's when the link in the mail to it is followed. Throws `forbidden` for accounts that are
 * kept elsewhere and for want of the password, `invalid_*` and `already_exists`.
 */
export async function changeSettings(
  deps: SettingsDeps & Pick<ServiceDeps, "passwords">,
  actor: Actor,
  body: ChangeSettingsBody,
): Promise<string> {
  const { id } = requireSignedIn(actor);
  const { mail } = deps.settings;
  if (body.username !== undefined) requireUsername(body.username);
  if (body.name !== undefined) requireDisplayName(body.name, "name");
  if (body.email !== undefined) requireEmail(body.email);
  if (body.email !== undefined && mail) await requirePasswordForAddress(deps, id, body);
  const pending = await inTransaction(deps.db, async (trx) => {
    const user = await lockUserAccount(trx, id);
    refuseKeptElsewhere(user);
    // Who is expected by a name is somebody who is new here, and not whoever takes it.
    if (body.username !== undefined && (await usernameIsAwaited(trx, body.username))) throw usernameTaken();
    const changes: UserChanges = {};
    if (body.username !== undefined && body.username !== user.username) changes.username = body.username;
    if (body.name !== undefined && body.name !== user.name) changes.name = body.name;
    const email = body.email !== undefined && body.email !== user.email ? body.email : null;
    const isPending = email !== null && (mail?.verificationRequired ?? false);
    if (email !== null && isPending) await askForAddress(trx, deps, user, email);
    else if (email !== null) {
      Object.assign(changes, { email, email_verified: false });
      await leaveAddress(trx, deps, user);
    }
    await updateUser(trx, id, changes);
    const changed = Object.keys(changes).filter((field) => field !== "email_verified");
    if (changed.length > 0) {
      await recordAudit(trx, { ...auditAuthor(actor), event: "user.update", metadata: { changed } });
    }
    return isPending ? email : null;
  }).catch(userTaken);
  if (mail) deps.notifier.notify("mail", "");
  return pending === null
    ? "Settings saved"
    : `A mail was sent to ${pending}: follow its link to make the address yours`;
}

/** Who has the address may have the password set anew: a session that was stolen is not enough to move it. */
async function requirePasswordForAddress(
  deps: SettingsDeps & Pick<ServiceDeps, "passwords">,
  id: string,
  { email, current_password: typed }: ChangeSettingsBody,
): Promise<void> {
  const user = await findUserAccount(deps.db, id);
  refuseKeptElsewhere(user);
  if (email === user.email) return;
  if (typed !== undefined) return await requireOwnPassword(deps, user, typed);
  throw new DomainError("forbidden", "current_password: a new email needs the password: send it along");
}

/** The new address gets a link, and the old one is told. Throws `too_many_requests` soon after, `already_exists`. */
async function askForAddress(
  trx: Transaction<Database>,
  deps: SettingsDeps,
  user: UserAccount,
  email: string,
): Promise<void> {
  if (await hasEnoughMail(trx, "verify_address", user.id)) {
    throw new DomainError(
      "too_many_requests",
      "email: mails were sent just now: follow the link in the last one, or try again later",
    );
  }
  // The user's own address in other cases is no other.
  if (email.toLowerCase() !== user.email.toLowerCase() && (await emailIsTaken(trx, email))) {
    throw new DomainError("already_exists", "email belongs to another account");
  }
  await queueAddressLink(trx, deps, { userId: user.id, email });
  if (email.toLowerCase() !== user.email.toLowerCase()) {
    await queueNotice(trx, deps, "address_asked", { userId: user.id, email: user.email });
  }
}

/** Links to the old address would bring it back, or let in whoever reads it. */
async function leaveAddress(trx: Transaction<Database>, deps: SettingsDeps, user: UserAccount): Promise<void> {
  await deleteAccountTokens(trx, user.id, TokenPurpose.ProveAddress);
  await deleteAccountTokens(trx, user.id, TokenPurpose.SetPassword);
  if (deps.settings.mail) await queueNotice(trx, deps, "address_changed", { userId: user.id, email: user.email });
}

/** Ends all other sessions. Throws `forbidden` when the present password is wrong, or is kept elsewhere. */
export async function changePassword(
  deps: SettingsDeps & Pick<ServiceDeps, "passwords">,
  actor: Actor,
  body: ChangePasswordBody,
): Promise<void> {
  const { id } = requireSignedIn(actor);
  const { db, passwords, settings, notifier } = deps;
  requirePasswords(deps);
  const present = await findUserAccount(db, id);
  refuseKeptElsewhere(present);
  requirePassword(body.new_password);
  await requireOwnPassword(deps, present, body.current_password);
  const password_hash = await passwords.hash(body.new_password);
  await inTransaction(db, async (trx) => {
    const user = await lockUserAccount(trx, id);
    if (user?.password_hash !== present.password_hash) {
      throw new DomainError("conflict", "The password was changed by somebody else just now: sign in anew");
    }
    await updateUser(trx, id, { password_hash });
    await deleteAccountTokens(trx, id, TokenPurpose.SetPassword);
    await deleteLinksToOtherAddresses(trx, id);
    await deleteDevicesOf(trx, id);
    const sessions = await revokeOtherSessions(trx, id, actor.sessionId);
    if (settings.mail) await queueNotice(trx, deps, "password_changed", { userId: id, email: user.email });
    await recordAudit(trx, { ...auditAuthor(actor), event: "user.password_change", metadata: { sessions } });
  });
  if (settings.mail) notifier.notify("mail", "");
}

/** Throws `forbidden` unless the account has this password. */
export async function requireOwnPassword(
  { passwords }: Pick<ServiceDeps, "passwords">,
  user: Pick<UserAccount, "password_hash">,
  typed: string | undefined,
): Promise<void> {
  const matches =
    typed !== undefined &&
    user.password_hash !== null &&
    isPasswordLength(typed) &&
    (await passwords.verify(user.password_hash, typed));
  if (!matches) throw new DomainError("forbidden", "The password is wrong");
}

function refuseKeptElsewhere(user: UserAccount | undefined): asserts user is UserAccount {
  if (!user) throw gone();
  if (user.managed) {
    throw new DomainError("forbidden", "This user is declared in the server's configuration: change it there");
  }
  if (user.password_hash === null) {
    throw new DomainError("forbidden", "This account is kept by the identity provider: change it there");
  }
}

function gone(): DomainError {
  return new DomainError("unauthorized", "This user account does not exist any more");
}
