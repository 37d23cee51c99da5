import { errors, jwtVerify, SignJWT } from "jose";
import type { Bytes } from "../lib/bytes.ts";
import { HOUR, SECOND } from "../lib/clock.ts";
import { hmacKey } from "../lib/hmac.ts";
import { isUuid } from "../lib/ids.ts";

const ALGORITHM = "HS256";
const TOKEN_MAX_LENGTH = 4_096;
/** Keeps the tokens apart that one secret signs: a session's has no audience. */
const AUDIENCE = "download";

const TOKEN_MS: number = 1 * HOUR;

/** What a download token lets its bearer fetch, for the user who asked for it. */
export interface DownloadClaims {
  readonly userId: string;
  readonly evaluationId: string;
  /** Base name of the `.drv`. */
  readonly derivation: string;
}

/** A JWT (HS256) for one hour with the claims `exp`, `iat`, `derivation`, `evaluation`, `sub` (the user) and `aud`. */
export async function signDownloadToken(secret: Bytes, claims: DownloadClaims, nowMs: number): Promise<string> {
  return await new SignJWT({ derivation: claims.derivation, evaluation: claims.evaluationId })
    .setProtectedHeader({ alg: ALGORITHM, typ: "JWT" })
    .setIssuedAt(Math.floor(nowMs / SECOND))
    .setExpirationTime(Math.floor((nowMs + TOKEN_MS) / SECOND))
    .setSubject(claims.userId)
    .setAudience(AUDIENCE)
    .sign(await hmacKey(secret));
}

/** Null unless it is a download token that this secret signed and that has not expired. */
export async function verifyDownloadToken(secret: Bytes, token: string, nowMs: number): Promise<DownloadClaims | null> {
  if (token.length > TOKEN_MAX_LENGTH) return null;
  try {
    const { payload } = await jwtVerify(token, await hmacKey(secret), {
      algorithms: [ALGORITHM],
      audience: AUDIENCE,
      currentDate: new Date(nowMs),
      requiredClaims: ["exp", "iat"],
    });
    const { sub: userId, evaluation: evaluationId, derivation } = payload;
    if (typeof userId !== "string" || typeof evaluationId !== "string" || typeof derivation !== "string") return null;
    return isUuid(userId) && isUuid(evaluationId) ? { userId, evaluationId, derivation } : null;
  } catch (error) {
    if (error instanceof errors.JOSEError) return null;
    throw error;
  }
}
