import { generateRandomCodeVerifier, generateRandomNonce, generateRandomState } from "oauth4webapi";
import { noteReturn } from "../db/identities.ts";
import { inTransaction } from "../db/transaction.ts";
import { uniqueViolation } from "../db/violations.ts";
import type { ActorClient } from "../domain/actor.ts";
import type { OidcProfile } from "../domain/oidc-claims.ts";
import { DomainError } from "../errors.ts";
import { recordAudit } from "./audit.ts";
import type { ServiceDeps } from "./deps.ts";
import { type FoundAccount, findOrMakeAccount } from "./oidc-accounts.ts";
import { ATTEMPT_MS, type OidcAttempt, openAttempt, sealAttempt, stateHash } from "./oidc-attempt.ts";
import { describeOidcFailure, OidcRefusedError } from "./oidc-failure.ts";
import { applyGroups } from "./oidc-groups.ts";
import type { OidcProvider } from "./oidc-provider.ts";
import { startSession } from "./sign-in.ts";

export interface OidcDeps extends Pick<ServiceDeps, "db" | "clock" | "random" | "log" | "settings"> {
  /** Null: nobody signs in by an identity provider. */
  readonly oidc: OidcProvider | null;
}

export interface BegunSignIn {
  /** Where the browser goes next. */
  readonly url: string;
  /** What it keeps until it comes back, for `ATTEMPT_MS`. */
  readonly cookie: string;
}

const SIGN_INS_MAX = 10;
const EVENTS = { claim: "user.oidc_link", creation: "register" } as const satisfies Partial<
  Record<FoundAccount["by"], string>
>;

/** The address under `serveUrl` that the provider knows and sends browsers back to. */
export const OIDC_CALLBACK_PATH = "/api/v1/auth/oidc/callback";

/** Throws `oauth_disabled`, or `service_unavailable` while the provider cannot be asked. */
export async function beginOidcSignIn(deps: OidcDeps): Promise<BegunSignIn> {
  const provider = requireProvider(deps);
  const attempt: OidcAttempt = {
    state: generateRandomState(),
    nonce: generateRandomNonce(),
    verifier: generateRandomCodeVerifier(),
  };
  try {
    const url = await provider.authorizationUrl(attempt);
    return { url, cookie: await sealAttempt(deps.settings.jwtSecret, attempt, deps.clock.now()) };
  } catch (error) {
    const reason = describeOidcFailure(error);
    deps.log.warn("the identity provider cannot be asked", { reason });
    throw new DomainError("service_unavailable", "The identity provider cannot be reached now: try again later");
  }
}

export interface ReturnedSignIn {
  /** What the provider appended to the callback's address. */
  readonly parameters: URLSearchParams;
  /** The cookie of the browser that came back; null when it sent none. */
  readonly cookie: string | null;
}

/**
 * A session's token for who came back from the provider. Whatever goes wrong there is one `unauthorized` for whoever
 * asks; the log and the audit log say what it was. Throws `oauth_disabled`.
 */
export async function finishOidcSignIn(
  deps: OidcDeps,
  { parameters, cookie }: ReturnedSignIn,
  client: ActorClient,
): Promise<string> {
  const provider = requireProvider(deps);
  const attempt = await attemptOf(deps, parameters.get("state"), cookie);
  let profile: OidcProfile | null = null;
  try {
    if (!(await noteReturn(deps.db, await stateHash(attempt.state), ATTEMPT_MS))) {
      throw new OidcRefusedError("this sign-in came back before");
    }
    profile = await identify(provider, parameters, attempt);
    return await signInAs(deps, profile, client);
  } catch (error) {
    if (!(error instanceof FailedSignIn) && !(error instanceof OidcRefusedError)) throw error;
    const reason = describeOidcFailure(error instanceof FailedSignIn ? error.cause : error);
    const who = profile ? { issuer: profile.issuer, subject: profile.subject } : {};
    deps.log.warn("a sign-in by the identity provider failed", { reason, ...who });
    const metadata = { method: "oidc", reason, ...who };
    await recordAudit(deps.db, { event: "login.failure", userId: null, client, metadata });
    throw failed();
  }
}

/** What the provider did or said: everything that is thrown while it is asked. */
class FailedSignIn extends Error {
  override readonly name = "FailedSignIn";
}

async function identify(
  provider: OidcProvider,
  parameters: URLSearchParams,
  attempt: OidcAttempt,
): Promise<OidcProfile> {
  try {
    return await provider.identify(parameters, attempt);
  } catch (cause) {
    throw new FailedSignIn("the provider did not say who it is", { cause });
  }
}

/** Where people who sign in at once want the same name, all but one find it in use when they try again. */
async function signInAs(deps: OidcDeps, profile: OidcProfile, client: ActorClient): Promise<string> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await openSession(deps, profile, client);
    } catch (error) {
      if (uniqueViolation(error) === null || attempt >= SIGN_INS_MAX) throw error;
    }
  }
}

async function openSession(deps: OidcDeps, profile: OidcProfile, client: ActorClient): Promise<string> {
  return await inTransaction(deps.db, async (trx) => {
    const found = await findOrMakeAccount(trx, deps, profile);
    const author = { userId: found.user.id, client };
    if (found.removed !== null) {
      const metadata = { username: found.removed, reason: "the address was never verified and is this person's" };
      await recordAudit(trx, { ...author, event: "user.delete", metadata });
    }
    if (found.by !== "known") {
      await recordAudit(trx, { ...author, event: EVENTS[found.by], metadata: metadataOf(profile) });
    }
    if (profile.groups === null) {
      deps.log.warn("the provider does not tell a user's groups: memberships stay", { user: found.user.username });
    }
    await applyGroups(trx, { ...author, username: found.user.username }, profile.groups);
    return await startSession({ ...deps, db: trx }, { userId: found.user.id, method: "oidc" }, client, {
      remember: false,
    });
  });
}

function metadataOf({ issuer, subject }: OidcProfile): { method: string; issuer: string; subject: string } {
  return { method: "oidc", issuer, subject };
}

async function attemptOf(
  { settings, clock }: OidcDeps,
  state: string | null,
  cookie: string | null,
): Promise<OidcAttempt> {
  if (!state)
    throw new DomainError("unauthorized", "The address lacks the state that the identity provider gives back");
  const attempt = cookie === null ? null : await openAttempt(settings.jwtSecret, cookie, clock.now());
  if (attempt?.state === state) return attempt;
  throw new DomainError(
    "unauthorized",
    "This browser did not begin to sign in here, or longer than 10 minutes ago: begin again",
  );
}

function requireProvider({ oidc }: OidcDeps): OidcProvider {
  if (oidc) return oidc;
  throw new DomainError("oauth_disabled", "No identity provider is set up on this server: sign in with a password");
}

function failed(): DomainError {
  return new DomainError(
    "unauthorized",
    "Signing in by the identity provider failed: try again, or ask the operator of this server, whose log says why",
  );
}
