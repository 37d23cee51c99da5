import type { RegisterBody, UserView } from "../api/auth.ts";
import { findUserById, findUserIdByName, insertUser } from "../db/users.ts";
import { uniqueViolation } from "../db/violations.ts";
import { type Actor, requireUser } from "../domain/actor.ts";
import { requireDisplayName, requireEmail, requireUsername } from "../domain/names.ts";
import { requirePassword } from "../domain/passwords.ts";
import { DomainError } from "../errors.ts";
import { uuidV7 } from "../lib/ids.ts";
import type { ServiceDeps } from "./deps.ts";

type RegistrationDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "passwords" | "settings">;

/** The new user's id. Whoever reaches the server may register, unless the operator turned that off. */
export async function register(deps: RegistrationDeps, body: RegisterBody): Promise<string> {
  if (!deps.settings.registrationEnabled) {
    throw new DomainError("registration_disabled", "Registration is turned off on this server: ask its operator");
  }
  return await createUser(deps, { ...body, superuser: false });
}

/** Throws `invalid_*` for what breaks a rule, `already_exists` when the name or the address is in use. */
export async function createUser(
  { db, clock, random, passwords }: Omit<RegistrationDeps, "settings">,
  user: RegisterBody & { readonly superuser: boolean },
): Promise<string> {
  requireUsername(user.username);
  requireDisplayName(user.name, "name");
  requireEmail(user.email);
  requirePassword(user.password);
  const id = uuidV7(clock.now(), random);
  const { username, name, email, superuser } = user;
  try {
    await insertUser(db, { id, username, name, email, superuser, password_hash: await passwords.hash(user.password) });
  } catch (error) {
    const constraint = uniqueViolation(error);
    if (constraint === "user_account_username_key") {
      throw new DomainError("already_exists", "username is taken: choose another one");
    }
    if (constraint === "user_account_email_key") {
      throw new DomainError("already_exists", "email belongs to another account");
    }
    throw error;
  }
  return id;
}

/** Throws when the name could not be registered: `invalid_username` or `already_exists`. */
export async function requireFreeUsername({ db }: Pick<ServiceDeps, "db">, username: string): Promise<void> {
  requireUsername(username);
  if (await findUserIdByName(db, username)) {
    throw new DomainError("already_exists", "username is taken: choose another one");
  }
}

export async function getOwnUser({ db }: Pick<ServiceDeps, "db">, actor: Actor): Promise<UserView> {
  const user = await findUserById(db, requireUser(actor).id);
  if (!user) throw new DomainError("unauthorized", "This user account does not exist any more");
  return user;
}
