import type { Transaction } from "kysely";
import { deleteAccountTokens, TokenPurpose } from "../db/account-tokens.ts";
import { deleteDevicesOf } from "../db/device-logins.ts";
import {
  emailIsTaken,
  findUserOfIdentity,
  type KnownAccount,
  linkIdentity,
  lockAccountsLike,
  lockIdentity,
  type ProfileColumns,
  type SignInUser,
  updateProfile,
  usernameIsAwaited,
  usernameIsTaken,
} from "../db/identities.ts";
import type { Database } from "../db/schema.ts";
import { revokeOtherSessions } from "../db/sessions.ts";
import { admitPendingMember, awaitMemberAgain } from "../db/state-members.ts";
import { deleteUser, lockIfHoldsNothing } from "../db/user-deletion.ts";
import { insertUser } from "../db/users.ts";
import { isUsername } from "../domain/names.ts";
import { numberedUsername, type OidcProfile } from "../domain/oidc-claims.ts";
import { randomFraction, uuidV7 } from "../lib/ids.ts";
import type { ServiceDeps } from "./deps.ts";
import { OidcRefusedError } from "./oidc-failure.ts";

type AccountDeps = Pick<ServiceDeps, "clock" | "random" | "log" | "settings">;

export interface FoundAccount {
  readonly user: SignInUser;
  /** How the account and the identity came together: `known` from an earlier sign-in. */
  readonly by: "known" | "claim" | "creation";
  /** The user name of an account that was deleted for it: who had registered with the address never verified it. */
  readonly removed: string | null;
}

const NUMBER_MAX = 20;
const NUMBER_DRAWS_MAX = 20;
const DRAWN_NUMBERS = 1_000_000;

/**
 * The account of whoever signed in: the one that is linked to the identity, else one that was provisioned for them,
 * else a new one. Throws `OidcRefusedError` for an inactive user, and where an account of somebody else has the name or
 * the address.
 */
export async function findOrMakeAccount(
  trx: Transaction<Database>,
  deps: AccountDeps,
  profile: OidcProfile,
): Promise<FoundAccount> {
  await lockIdentity(trx, profile);
  const known = await findUserOfIdentity(trx, profile);
  if (known) return { user: await refresh(trx, deps, requireActive(known), profile), by: "known", removed: null };
  const like = await lockAccountsLike(trx, { username: nameOf(profile), email: profile.email?.address ?? null });
  const squatter = await removeSquatter(trx, deps, like, profile);
  const accounts = like.filter((account) => account !== squatter);
  const removed = squatter?.username ?? null;
  const unused = findUnused(deps, accounts, profile);
  if (!unused) return { user: await makeAccount(trx, deps, profile), by: "creation", removed };
  await linkIdentity(trx, requireActive(unused).id, profile);
  await shutOut(trx, unused.id);
  return { user: await refresh(trx, deps, unused, profile), by: "claim", removed };
}

/**
 * The one account that has the name or the address, when nobody can sign in to it. An address that the provider did not
 * verify claims nothing.
 */
function findUnused(
  deps: AccountDeps,
  accounts: readonly KnownAccount[],
  profile: OidcProfile,
): KnownAccount | undefined {
  const { issuer, email } = profile;
  const verified = email?.verified ? email.address : null;
  const name = nameOf(profile);
  const byEmail = verified === null ? undefined : accounts.find((account) => same(account.email, verified));
  const byName = accounts.find((account) => same(account.username, name));
  if (byEmail && (isNew(byEmail) || isLeft(byEmail, deps, issuer))) return byEmail;
  if (byEmail) throw new OidcRefusedError(`the account ${byEmail.username} has this address and is somebody's already`);
  if (byName && isNew(byName)) return byName;
  if (byName) throw new OidcRefusedError(`the account ${byName.username} has this name and is somebody's already`);
  const [other] = accounts;
  if (!other) return undefined;
  throw new OidcRefusedError(
    `the account ${other.username} has this address, which the provider does not say it has verified (email_verified)`,
  );
}

/** Other letters than ours may become ours in lower case (the sign for kelvin does), and are not the same for that. */
function nameOf({ username: { word } }: OidcProfile): string {
  return /^[\x21-\x7e]+$/.test(word) ? word : "";
}

/**
 * Deletes the account that keeps the verified address from whose it is. One that somebody gave anything to stays, and
 * is somebody's. What the state file promised to its name is promised again to whoever gets that name next.
 */
async function removeSquatter(
  trx: Transaction<Database>,
  deps: AccountDeps,
  like: readonly KnownAccount[],
  { email }: OidcProfile,
): Promise<KnownAccount | undefined> {
  if (!email?.verified) return undefined;
  const squatter = like.find((account) => isSquatter(account, deps, email.address));
  if (!squatter) return undefined;
  requireActive(squatter);
  if (squatter.superuser || !(await lockIfHoldsNothing(trx, squatter.id))) return undefined;
  await awaitMemberAgain(trx, { userId: squatter.id, username: squatter.username });
  await deleteUser(trx, squatter.id);
  return squatter;
}

/** It was provisioned, and nobody could ever sign in to it. */
function isNew(account: KnownAccount): boolean {
  return !account.has_password && account.issuer === null;
}

/**
 * Somebody registered with the address and never showed that it is theirs, so that nobody could sign in: whose it is
 * would be kept out for ever.
 */
function isSquatter(account: KnownAccount, { settings }: AccountDeps, address: string): boolean {
  const isProven = account.email_verified || !account.never_signed_in || !settings.mail?.verificationRequired;
  return !isProven && !account.managed && account.issuer === null && same(account.email, address);
}

/**
 * Somebody could sign in and cannot any more: by a provider that is not the configured one, or with a password where
 * none counts. Whose account it is shows an address that was verified then: it might be a stranger's trap otherwise.
 */
function isLeft(account: KnownAccount, { settings }: AccountDeps, issuer: string): boolean {
  const passwordCounts = account.has_password && !settings.oidc?.required;
  return account.email_verified && account.issuer !== issuer && !passwordCounts;
}

/** Whoever signed in before in another way does not stay in, as after a new password. API keys go on. */
async function shutOut(trx: Transaction<Database>, userId: string): Promise<void> {
  await deleteDevicesOf(trx, userId);
  await deleteAccountTokens(trx, userId, TokenPurpose.ProveAddress);
  await deleteAccountTokens(trx, userId, TokenPurpose.SetPassword);
  await revokeOtherSessions(trx, userId, null);
}

/** The provider's name and address, where they may be kept. What the operator's state says of a user stays. */
async function refresh(
  trx: Transaction<Database>,
  deps: AccountDeps,
  user: SignInUser,
  profile: OidcProfile,
): Promise<SignInUser> {
  const { name } = profile;
  const columns = {
    ...(!user.managed && name !== null && name !== user.name && { name }),
    ...(await freshEmail(trx, deps, user, profile)),
  };
  await updateProfile(trx, user.id, columns);
  return { ...user, ...columns };
}

/** An address that nobody verified does not take the place of one that somebody did. */
async function freshEmail(
  trx: Transaction<Database>,
  { log }: AccountDeps,
  user: SignInUser,
  { email }: OidcProfile,
): Promise<Pick<ProfileColumns, "email" | "email_verified">> {
  if (!email || (user.email_verified && !email.verified)) return {};
  if (same(email.address, user.email)) return email.verified === user.email_verified ? {} : { email_verified: true };
  if (user.managed) return {};
  if (!(await emailIsTaken(trx, email.address, user.id))) {
    return { email: email.address, email_verified: email.verified };
  }
  log.warn("the provider's address for a user is another account's: the user keeps the old one", {
    user: user.username,
  });
  return {};
}

async function makeAccount(trx: Transaction<Database>, deps: AccountDeps, profile: OidcProfile): Promise<SignInUser> {
  const username = await freeUsername(trx, deps, profile);
  const user = {
    id: uuidV7(deps.clock.now(), deps.random),
    username,
    name: profile.name ?? username,
    // Nobody's, for whom the provider tells none.
    email: profile.email?.address ?? "",
    email_verified: profile.email?.verified ?? false,
    superuser: false,
    active: true,
    managed: false,
  };
  await insertUser(trx, user);
  await linkIdentity(trx, user.id, profile);
  await admitPendingMember(trx, { userId: user.id, username });
  return user;
}

async function freeUsername(
  trx: Transaction<Database>,
  { random }: AccountDeps,
  { username: { word, nearest } }: OidcProfile,
): Promise<string> {
  if (word === nearest) return word;
  if (isUsername(nearest) && (await isAnybodys(trx, nearest))) return nearest;
  for (let number = 2; number <= NUMBER_MAX; number++) {
    const name = numberedUsername(nearest, number);
    if (await isAnybodys(trx, name)) return name;
  }
  for (let draw = 0; draw < NUMBER_DRAWS_MAX; draw++) {
    const name = numberedUsername(nearest, DRAWN_NUMBERS + Math.floor(randomFraction(random) * DRAWN_NUMBERS));
    if (await isAnybodys(trx, name)) return name;
  }
  throw new OidcRefusedError(`no user name like ${nearest} is free`);
}

/** A name that we made must not be one that the operator's state means somebody else by. */
async function isAnybodys(trx: Transaction<Database>, username: string): Promise<boolean> {
  return !(await usernameIsTaken(trx, username)) && !(await usernameIsAwaited(trx, username));
}

function requireActive<User extends SignInUser>(user: User): User {
  if (user.active) return user;
  throw new OidcRefusedError(`the account ${user.username} is deactivated`);
}

function same(a: string, b: string): boolean {
  return a.toLowerCase() === b.toLowerCase();
}
