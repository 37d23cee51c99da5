import { type Context, Hono } from "hono";
import { deleteCookie, setCookie } from "hono/cookie";
import type { CookieOptions } from "hono/utils/cookie";
import { CheckUsernameBody, LoginBody, RegisterBody } from "#core/api/auth.ts";
import { DomainError } from "#core/errors.ts";
import { SESSION_COOKIE, sessionCookie } from "#core/http/credentials.ts";
import { failure, success } from "#core/http/envelope.ts";
import type { ServiceDeps } from "#core/services/deps.ts";
import { register, requireFreeUsername } from "#core/services/registration.ts";
import { signIn, signOut } from "#core/services/sign-in.ts";
import type { AppEnv } from "./env.ts";
import { readJson } from "./parse.ts";

/** `/auth`: accounts and sessions with a password. */
export function authRoutes(deps: ServiceDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const cookie: CookieOptions = {
    httpOnly: true,
    sameSite: "Strict",
    path: "/",
    secure: deps.settings.serveUrl.startsWith("https:"),
  };

  app.post("/basic/register", async (c) => c.json(success(await register(deps, await readJson(c, RegisterBody)))));

  app.post("/basic/login", async (c) => {
    const body = await readJson(c, LoginBody);
    const { token, cookieMaxAgeSeconds } = await signIn(deps, body, {
      address: c.get("clientIp"),
      userAgent: c.req.header("user-agent") ?? null,
    });
    setCookie(c, SESSION_COOKIE, token, cookieMaxAgeSeconds ? { ...cookie, maxAge: cookieMaxAgeSeconds } : cookie);
    return c.json(success(token));
  });

  app.post("/check-username", async (c) => {
    const { username } = await readJson(c, CheckUsernameBody);
    return await answerCheck(c, requireFreeUsername(deps, username));
  });

  app.post("/logout", async (c) => {
    await signOut(deps, c.get("actor"), sessionCookie(c.req.raw.headers));
    deleteCookie(c, SESSION_COOKIE, cookie);
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
