import { errors, jwtVerify, SignJWT } from "jose";
import type { Bytes } from "../lib/bytes.ts";
import { hmacKey } from "../lib/hmac.ts";
import { isUuid } from "../lib/ids.ts";

const ALGORITHM = "HS256";
/** Clocks of several servers differ by less. The session's row ends it to the second. */
const CLOCK_TOLERANCE_SECONDS = 60;
const TOKEN_MAX_LENGTH = 4_096;

export interface SessionClaims {
  readonly sessionId: string;
  readonly userId: string;
}

export interface SessionTimes {
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** A JWT (HS256) with the claims `exp`, `iat`, `id` (the user) and `jti` (the session). */
export async function signSessionToken(secret: Bytes, claims: SessionClaims, times: SessionTimes): Promise<string> {
  return await new SignJWT({ id: claims.userId })
    .setProtectedHeader({ alg: ALGORITHM, typ: "JWT" })
    .setIssuedAt(Math.floor(times.issuedAtMs / 1000))
    .setExpirationTime(Math.floor(times.expiresAtMs / 1000))
    .setJti(claims.sessionId)
    .sign(await hmacKey(secret));
}

/** Null unless the token was signed with this secret, has not expired and names a session and a user. */
export async function verifySessionToken(secret: Bytes, token: string, nowMs: number): Promise<SessionClaims | null> {
  if (token.length > TOKEN_MAX_LENGTH) return null;
  try {
    const { payload } = await jwtVerify(token, await hmacKey(secret), {
      algorithms: [ALGORITHM],
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      currentDate: new Date(nowMs),
      requiredClaims: ["exp", "iat", "jti", "id"],
    });
    const { id: userId, jti: sessionId } = payload;
    if (typeof userId !== "string" || typeof sessionId !== "string") return null;
    return isUuid(userId) && isUuid(sessionId) ? { userId, sessionId } : null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}
