import { type Context, Hono } from "hono";
import { deleteCookie, getCookie, setCookie } from "hono/cookie";
import type { CookieOptions } from "hono/utils/cookie";
import { GetOidcCallbackQuery } from "#core/api/auth-oidc.ts";
import { DomainError } from "#core/errors.ts";
import { SESSION_COOKIE } from "#core/http/credentials.ts";
import { success } from "#core/http/envelope.ts";
import { beginOidcSignIn, finishOidcSignIn, type OidcDeps } from "#core/services/oidc.ts";
import { ATTEMPT_MS } from "#core/services/oidc-attempt.ts";
import type { AppEnv } from "./env.ts";
import { readQuery } from "./parse.ts";

const ATTEMPT_COOKIE = "oidc_csrf";
/** The web interface's page that goes on from there. */
const SIGNED_IN_PAGE = "/account/oidc-callback";

/** `/auth/oidc` and `/auth/oauth`: sessions by an identity provider, for browsers and for clients that lead one. */
export function oidcRoutes(deps: OidcDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  const { secureCookie: secure, serveUrl, frontendUrl } = deps.settings;
  const signedInPage = `${frontendUrl === serveUrl ? "" : frontendUrl}${SIGNED_IN_PAGE}`;
  // The provider's redirect is a navigation from another site: `Strict` would keep the cookie back.
  const attemptCookie: CookieOptions = { httpOnly: true, sameSite: "Lax", path: "/", secure };
  const sessionCookie: CookieOptions = { httpOnly: true, sameSite: "Strict", path: "/", secure };

  const begin = async (c: Context<AppEnv>): Promise<string> => {
    const { url, cookie } = await beginOidcSignIn(deps);
    setCookie(c, ATTEMPT_COOKIE, cookie, { ...attemptCookie, maxAge: ATTEMPT_MS / 1_000 });
    c.header("cache-control", "no-store");
    return url;
  };
  const finish = async (c: Context<AppEnv>, query: GetOidcCallbackQuery): Promise<string> => {
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, value);
    const returned = { parameters, cookie: getCookie(c, ATTEMPT_COOKIE) ?? null };
    const client = { address: c.get("clientIp"), userAgent: c.req.header("user-agent") ?? null };
    const token = await finishOidcSignIn(deps, returned, client);
    deleteCookie(c, ATTEMPT_COOKIE, attemptCookie);
    c.header("cache-control", "no-store");
    return token;
  };

  app.get("/oidc/login", async (c) => c.redirect(await begin(c)));
  app.get("/oidc/callback", async (c) => {
    const token = await finish(c, readQuery(c, GetOidcCallbackQuery));
    setCookie(c, SESSION_COOKIE, token, sessionCookie);
    return c.redirect(signedInPage);
  });
  app.post("/oauth/authorize", async (c) => c.json(success(await begin(c))));
  app.get("/oauth/authorize", async (c) => {
    const query = readQuery(c, GetOidcCallbackQuery);
    if (deps.oidc && !query.code) {
      throw new DomainError("invalid_oauth_code", "code: is missing: give what the identity provider gave back");
    }
    return c.json(success(await finish(c, query)));
  });

  return app;
}
