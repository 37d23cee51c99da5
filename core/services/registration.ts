import type { Transaction } from "kysely";
import type { RegisterBody, UserView } from "../api/auth.ts";
import type { Database } from "../db/schema.ts";
import { admitPendingMember } from "../db/state-members.ts";
import { inTransaction } from "../db/transaction.ts";
import { findUserById, findUserIdByName, insertUser } from "../db/users.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, type ActorClient, requireUser } from "../domain/actor.ts";
import { requireDisplayName, requireEmail, requireUsername } from "../domain/names.ts";
import { requirePassword } from "../domain/passwords.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import { recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { queueAddressLink } from "./mail.ts";

type RegistrationDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "passwords" | "settings" | "notifier">;

/** The new user's id. Whoever reaches the server may register, unless the operator turned that off. */
export async function register(deps: RegistrationDeps, body: RegisterBody, client: ActorClient): Promise<string> {
  requireRegistration(deps);
  const verified = deps.settings.mail?.verificationRequired ?? false;
  const id = await createUser(deps, { ...body, superuser: false }, async (trx, userId) => {
    if (verified) await queueAddressLink(trx, deps, { userId, email: body.email });
    await recordAudit(trx, { event: "register", userId, client });
  });
  if (verified) deps.notifier.notify("mail", "");
  return id;
}

/**
 * Throws `invalid_*` for what breaks a rule, `already_exists` when the name or the address is in use. `also` is what
 * belongs to the same transaction, once the row is there.
 */
export async function createUser(
  { db, clock, random, passwords }: Pick<RegistrationDeps, "db" | "clock" | "random" | "passwords">,
  user: RegisterBody & { readonly superuser: boolean },
  also: (trx: Transaction<Database>, id: string) => Promise<void> = async () => {},
): Promise<string> {
  requireUsername(user.username);
  requireDisplayName(user.name, "name");
  requireEmail(user.email);
  requirePassword(user.password);
  const id = uuidV7(clock.now(), random);
  const { username, name, email, superuser } = user;
  const password_hash = await passwords.hash(user.password);
  await inTransaction(db, async (trx) => {
    await insertUser(trx, { id, username, name, email, superuser, password_hash });
    await admitPendingMember(trx, { userId: id, username });
    await also(trx, id);
  }).catch(userTaken);
  return id;
}

/** Throws when the name could not be registered: `invalid_username`, `already_exists` or `registration_disabled`. */
export async function requireFreeUsername(
  { db, settings }: Pick<ServiceDeps, "db" | "settings">,
  username: string,
): Promise<void> {
  // Where nobody can register, the answer would only tell who is here.
  requireRegistration({ settings });
  requireUsername(username);
  if (await findUserIdByName(db, username)) throw usernameTaken();
}

export async function getOwnUser({ db }: Pick<ServiceDeps, "db">, actor: Actor): Promise<UserView> {
  const user = await findUserById(db, requireUser(actor).id);
  if (!user) throw new DomainError("unauthorized", "This user account does not exist any more");
  return user;
}

/** Rethrows what a write of a user's row failed with, as `already_exists` where its name or address is in use. */
export function userTaken(error: unknown): never {
  const constraint = uniqueViolation(error);
  if (constraint === "user_account_username_key") throw usernameTaken();
  if (constraint === "user_account_email_key") {
    throw new DomainError("already_exists", "email belongs to another account");
  }
  throw error;
}

export function usernameTaken(): DomainError {
  return new DomainError("already_exists", "username is taken: choose another one");
}

function requireRegistration({ settings }: Pick<ServiceDeps, "settings">): void {
  if (settings.oidc?.required) {
    throw new DomainError("registration_disabled", "Accounts of this server come from its identity provider: sign in");
  }
  if (settings.registrationEnabled) return;
  throw new DomainError("registration_disabled", "Registration is turned off on this server: ask its operator");
}
