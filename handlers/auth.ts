import { type Context, Hono } from "hono";
import { deleteCookie, setCookie } from "hono/cookie";
import type { CookieOptions } from "hono/utils/cookie";
import {
  CheckUsernameBody,
  ConfirmPasswordResetBody,
  LoginBody,
  RegisterBody,
  RequestPasswordResetBody,
  ResendVerificationBody,
  VerifyEmailQuery,
} from "#core/api/auth.ts";
import { DomainError } from "#core/errors.ts";
import { SESSION_COOKIE, sessionCookie } from "#core/http/credentials.ts";
import { failure, success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { resendVerification, verifyAddress } from "#core/services/mail-verification.ts";
import { confirmPasswordReset, requestPasswordReset } from "#core/services/password-reset.ts";
import { register, requireFreeUsername } from "#core/services/registration.ts";
import { signIn, signOut } from "#core/services/sign-in.ts";
import { clientOf } from "./client-of.ts";
import type { AppEnv } from "./env.ts";
import { readJson, readQuery } from "./parse.ts";

/** `/auth`: accounts and sessions with a password. */
export function authRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const cookie: CookieOptions = {
    httpOnly: true,
    sameSite: "Strict",
    path: "/",
    secure: deps.settings.secureCookie,
  };

  app.post("/basic/register", async (c) => {
    return c.json(success(await register(deps, await readJson(c, RegisterBody), clientOf(c))));
  });

  app.post("/basic/login", async (c) => {
    const body = await readJson(c, LoginBody);
    const { token, cookieMaxAgeSeconds } = await signIn(deps, body, clientOf(c));
    setCookie(c, SESSION_COOKIE, token, cookieMaxAgeSeconds ? { ...cookie, maxAge: cookieMaxAgeSeconds } : cookie);
    return c.json(success(token));
  });

  app.post("/check-username", async (c) => {
    const { username } = await readJson(c, CheckUsernameBody);
    return await answerCheck(c, requireFreeUsername(deps, username));
  });

  app.get("/verify-email", async (c) => {
    const { token } = readQuery(c, VerifyEmailQuery);
    // Filters of mail look at links before people do.
    if (c.req.method !== "HEAD") await verifyAddress(deps, token, clientOf(c));
    return c.json(success("Your email address is verified: you can sign in"));
  });

  app.post("/resend-verification", async (c) => {
    await resendVerification(deps, (await readJson(c, ResendVerificationBody)).username);
    return c.json(success("If the account waits for its address to be verified, a mail is on its way"));
  });

  app.post("/password-reset", async (c) => {
    await requestPasswordReset(deps, (await readJson(c, RequestPasswordResetBody)).loginname);
    return c.json(success("If there is such an account, a mail is on its way to its address"));
  });

  app.post("/password-reset/confirm", async (c) => {
    await confirmPasswordReset(deps, await readJson(c, ConfirmPasswordResetBody), clientOf(c));
    return c.json(success("The password is set, and all sessions were ended: sign in"));
  });

  app.post("/logout", async (c) => {
    const token = sessionCookie(c.req.raw.headers);
    await signOut(deps, c.get("actor"), token, clientOf(c));
    // Browsers keep the cookie from pages of others: answered without one, their forms would empty it.
    if (token !== null) deleteCookie(c, SESSION_COOKIE, cookie);
    return c.json(success("Signed out"));
  });

  return app;
}

/** A form asks while someone types: the verdict is the answer, always with status 200. */
async function answerCheck(c: Context<AppEnv>, check: Promise<void>): Promise<Response> {
  try {
    await check;
    return c.json(success("The username is available"));
  } catch (error) {
    if (error instanceof DomainError) return c.json(failure(error));
    throw error;
  }
}
