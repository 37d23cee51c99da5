import type { LoginBody } from "../api/auth.ts";
import { insertSession, revokeSession } from "../db/sessions.ts";
import { findUserForLogin, noteLogin } from "../db/users.ts";
import type { Actor } from "../domain/actor.ts";
import { isPasswordLength } from "../domain/passwords.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import { DAY } from "../lib/clock.ts";
import { systemRandom, uuidV7 } from "../lib/ids.ts";
import type { PasswordHasher } from "../ports/password-hasher.ts";
import type { ServiceDeps } from "./deps.ts";
import { signSessionToken, verifySessionToken } from "./session-token.ts";

const SESSION_MS = DAY;
const REMEMBERED_SESSION_MS: number = 30 * DAY;
const USER_AGENT_MAX_LENGTH = 512;

type SignInDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "passwords" | "settings">;

export interface Client {
  readonly address: string;
  readonly userAgent: string | null;
}

export interface SignedIn {
  readonly token: string;
  /** How long a browser keeps the cookie; null: until it is closed. */
  readonly cookieMaxAgeSeconds: number | null;
}

/** What is verified when there is no such user, so that the answer takes as long as a wrong password does. */
const decoys = new WeakMap<PasswordHasher, Promise<string>>();

/** Throws `invalid_credentials`, the same for an unknown name and a wrong password, or `forbidden` when deactivated. */
export async function signIn(deps: SignInDeps, body: LoginBody, client: Client): Promise<SignedIn> {
  const decoy = await decoyHash(deps.passwords);
  const user = await findUserForLogin(deps.db, body.loginname);
  const password = isPasswordLength(body.password) ? body.password : "";
  const matches = await deps.passwords.verify(user?.password_hash ?? decoy, password);
  if (!user?.password_hash || !matches) {
    throw new DomainError("invalid_credentials", "The login name or the password is wrong");
  }
  if (!user.active) throw new DomainError("forbidden", "This user account is deactivated");
  await noteLogin(deps.db, user.id);
  return {
    token: await startSession(deps, user.id, client, { remember: body.remember_me }),
    cookieMaxAgeSeconds: body.remember_me ? REMEMBERED_SESSION_MS / 1000 : null,
  };
}

/** A session's token for a user whose identity was proved in whatever way. */
export async function startSession(
  { db, clock, random, settings }: Omit<SignInDeps, "passwords">,
  userId: string,
  client: Client,
  { remember }: { readonly remember: boolean },
): Promise<string> {
  const session = {
    id: uuidV7(clock.now(), random),
    user_id: userId,
    remember_me: remember,
    user_agent: client.userAgent?.slice(0, USER_AGENT_MAX_LENGTH) ?? null,
    ip: client.address,
  };
  const { created_at, expires_at } = await insertSession(db, session, remember ? REMEMBERED_SESSION_MS : SESSION_MS);
  const times = { issuedAtMs: created_at.getTime(), expiresAtMs: expires_at.getTime() };
  return await signSessionToken(settings.jwtSecret, { sessionId: session.id, userId }, times);
}

/** Revokes the session of the request, or of a cookie that another credential overrode. Nothing to end is no error. */
export async function signOut(
  { db, clock, settings }: Pick<SignInDeps, "db" | "clock" | "settings">,
  actor: Actor,
  cookieToken: string | null,
): Promise<void> {
  const claims = cookieToken ? await verifySessionToken(settings.jwtSecret, cookieToken, clock.now()) : null;
  for (const id of new Set([actor.sessionId, claims?.sessionId])) if (id) await revokeSession(db, id);
}

function decoyHash(passwords: PasswordHasher): Promise<string> {
  let decoy = decoys.get(passwords);
  if (!decoy) {
    decoy = passwords.hash(toHex(systemRandom(new Uint8Array(16))));
    decoys.set(passwords, decoy);
    // A hasher that failed once is asked again.
    decoy.catch(() => decoys.delete(passwords));
  }
  return decoy;
}
