import type { LoginBody } from "../api/auth.ts";
import { insertSignIn, revokeSession } from "../db/sessions.ts";
import { withRetries } from "../db/transaction.ts";
import { findUserForLogin, type UserForLogin } from "../db/users.ts";
import type { Actor, ActorClient } from "../domain/actor.ts";
import { isPasswordLength } from "../domain/passwords.ts";
import { DomainError } from "../errors.ts";
import { toHex } from "../lib/bytes.ts";
import { DAY } from "../lib/clock.ts";
import { systemRandom, uuidV7 } from "../lib/ids.ts";
import type { PasswordHasher } from "../ports/password-hasher.ts";
import { auditRow, recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { requirePasswords } from "./password-mode.ts";
import { signSessionToken, verifySessionToken } from "./session-token.ts";

const SESSION_MS = DAY;
const REMEMBERED_SESSION_MS: number = 30 * DAY;
const USER_AGENT_MAX_LENGTH = 512;

type SignInDeps = Pick<ServiceDeps, "db" | "clock" | "random" | "passwords" | "settings">;

export interface SignedIn {
  readonly token: string;
  /** How long a browser keeps the cookie; null: until it is closed. */
  readonly cookieMaxAgeSeconds: number | null;
}

/** What is verified when there is no such user, so that the answer takes as long as a wrong password does. */
const decoys = new WeakMap<PasswordHasher, Promise<string>>();

/**
 * Throws `invalid_credentials`, the same after the same work for an unknown name and a wrong password. Only who knows
 * the password is told what else is in the way: `forbidden` when deactivated, `bad_request` while the address is to be
 * verified. Throws `oauth_required` where nobody signs in with a password.
 */
export async function signIn(deps: SignInDeps, body: LoginBody, client: ActorClient): Promise<SignedIn> {
  const { db } = deps;
  requirePasswords(deps);
  const user = await findUserForLogin(db, body.loginname);
  const refusal = await checkPassword(deps, user, body.password);
  if (!user || refusal) {
    const metadata = { reason: user ? (refusal?.reason ?? "") : "unknown" };
    await recordAudit(db, { event: "login.failure", userId: user?.id ?? null, client, metadata });
    throw refusal?.error ?? invalidCredentials();
  }
  const proof = { userId: user.id, method: "password", passwordHash: user.password_hash } as const;
  const token = await withRetries(() => startSession(deps, proof, client, { remember: body.remember_me }));
  return { token, cookieMaxAgeSeconds: body.remember_me ? REMEMBERED_SESSION_MS / 1000 : null };
}

interface Refusal {
  /** For the audit log. */
  readonly reason: string;
  readonly error: DomainError;
}

async function checkPassword(
  { passwords, settings }: SignInDeps,
  user: UserForLogin | undefined,
  typed: string,
): Promise<Refusal | null> {
  const decoy = await decoyHash(passwords);
  const password = isPasswordLength(typed) ? typed : "";
  const matches = await passwords.verify(user?.password_hash ?? decoy, password);
  if (!user?.password_hash || !matches) return { reason: "password", error: invalidCredentials() };
  if (!user.active) {
    return { reason: "inactive", error: new DomainError("forbidden", "This user account is deactivated") };
  }
  if (settings.mail?.verificationRequired && !user.email_verified) {
    const words = "Your email address is not verified yet: follow the link in the mail, or ask for another mail";
    return { reason: "unverified", error: new DomainError("bad_request", words) };
  }
  return null;
}

function invalidCredentials(): DomainError {
  return new DomainError("invalid_credentials", "The login name or the password is wrong");
}

/** Who it is, and how that was proved. */
interface IdentityProof {
  readonly userId: string;
  readonly method: "password" | "device" | "oidc";
  /** As it was checked: one that was replaced meanwhile opens no session any more. */
  readonly passwordHash?: string | null;
}

/**
 * A session's token, with a record in the audit log. Throws `invalid_credentials` when the user is gone by now, or the
 * password was replaced.
 */
export async function startSession(
  { db, clock, random, settings }: Omit<SignInDeps, "passwords">,
  { userId, method, passwordHash = null }: IdentityProof,
  client: ActorClient,
  { remember }: { readonly remember: boolean },
): Promise<string> {
  const session = {
    id: uuidV7(clock.now(), random),
    user_id: userId,
    remember_me: remember,
    user_agent: client.userAgent?.slice(0, USER_AGENT_MAX_LENGTH) ?? null,
    ip: client.address,
  };
  const audit = auditRow({ event: "login.success", userId, client, metadata: { method } });
  const lifetimeMs = remember ? REMEMBERED_SESSION_MS : SESSION_MS;
  const times = await insertSignIn(db, { session, lifetimeMs, audit, passwordHash });
  if (!times) throw invalidCredentials();
  return await signSessionToken(
    settings.jwtSecret,
    { sessionId: session.id, userId },
    {
      issuedAtMs: times.created_at.getTime(),
      expiresAtMs: times.expires_at.getTime(),
    },
  );
}

/** Revokes the session of the request, or of a cookie that another credential overrode. Nothing to end is no error. */
export async function signOut(
  { db, clock, settings }: Pick<SignInDeps, "db" | "clock" | "settings">,
  actor: Actor,
  cookieToken: string | null,
  client: ActorClient,
): Promise<void> {
  const claims = cookieToken ? await verifySessionToken(settings.jwtSecret, cookieToken, clock.now()) : null;
  for (const id of new Set([actor.sessionId, claims?.sessionId])) {
    const userId = id && (await revokeSession(db, id));
    if (userId) await recordAudit(db, { event: "logout", userId, client });
  }
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
