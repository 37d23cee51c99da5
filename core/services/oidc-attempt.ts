import { errors, jwtVerify, SignJWT } from "jose";
import { type Bytes, utf8 } from "../lib/bytes.ts";
import { MINUTE } from "../lib/clock.ts";

/** How long somebody may take at the provider. */
export const ATTEMPT_MS: number = 10 * MINUTE;

/** What a browser keeps while its user is at the provider. Nobody else may know or make it. */
export interface OidcAttempt {
  /** Comes back in the address, which binds the answer to this browser. */
  readonly state: string;
  /** Comes back in the ID token, which binds that to this sign-in. */
  readonly nonce: string;
  /** RFC 7636: whoever redeems the code knows it. */
  readonly verifier: string;
}

const ALGORITHM = "HS256";
/** Keeps tokens that the same secret signs for something else from passing for this, and this for them. */
const TYPE = "oidc-csrf+jwt";
const TOKEN_MAX_LENGTH = 2_048;
/** 32 random bytes in base64url. */
const RANDOM = /^[A-Za-z0-9_-]{43}$/;

/** A JWT (HS256) that holds for 10 minutes. */
export async function sealAttempt(
  secret: Bytes,
  { state, nonce, verifier }: OidcAttempt,
  nowMs: number,
): Promise<string> {
  return await new SignJWT({ state, nonce, verifier })
    .setProtectedHeader({ alg: ALGORITHM, typ: TYPE })
    .setIssuedAt(Math.floor(nowMs / 1_000))
    .setExpirationTime(Math.floor((nowMs + ATTEMPT_MS) / 1_000))
    .sign(secret);
}

/** Null unless this secret signed it as such, not longer ago than 10 minutes. */
export async function openAttempt(secret: Bytes, token: string, nowMs: number): Promise<OidcAttempt | null> {
  if (token.length > TOKEN_MAX_LENGTH) return null;
  try {
    const { payload } = await jwtVerify(token, secret, {
      algorithms: [ALGORITHM],
      typ: TYPE,
      currentDate: new Date(nowMs),
      requiredClaims: ["exp"],
    });
    const { state, nonce, verifier } = payload;
    return isRandom(state) && isRandom(nonce) && isRandom(verifier) ? { state, nonce, verifier } : null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}

/** Under this the database remembers that the attempt came back. */
export async function stateHash(state: string): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(state)));
}

function isRandom(value: unknown): value is string {
  return typeof value === "string" && RANDOM.test(value);
}
