import { expect, test } from "vitest";
import { apiToken, cacheToken, isOwnPageWrite, sessionCookie } from "./credentials.ts";

const basic = (pair: string) => `Basic ${btoa(pair)}`;

test("the API takes a Bearer token before the cookie, and an unknown scheme counts as wrong credentials", () => {
  expect(apiToken(new Headers())).toBeNull();
  expect(apiToken(new Headers({ cookie: "jwt_token=c" }))).toBe("c");
  expect(apiToken(new Headers({ cookie: "jwt_token=c", authorization: "Bearer b" }))).toBe("b");
  expect(apiToken(new Headers({ authorization: "bearer b" }))).toBe("b");
  for (const authorization of ["Bearer", basic("u:p"), "Bearer a b", `Bearer ${"x".repeat(9_000)}`]) {
    expect([authorization, apiToken(new Headers({ cookie: "jwt_token=c", authorization }))]).toEqual([
      authorization,
      "",
    ]);
  }
});

test("a cache takes the password of Basic, colons included, or a Bearer token", () => {
  expect(cacheToken(new Headers({ cookie: "jwt_token=c" }))).toBeNull();
  expect(cacheToken(new Headers({ authorization: basic("anyone:GRAD:x") }))).toBe("GRAD:x");
  expect(cacheToken(new Headers({ authorization: "Bearer b" }))).toBe("b");
  for (const authorization of ["Basic", "Basic !!!", basic("no colon"), "Digest x"]) {
    expect([authorization, cacheToken(new Headers({ authorization }))]).toEqual([authorization, ""]);
  }
});

test("the session cookie is found among others, by its whole name", () => {
  expect(sessionCookie(new Headers({ cookie: "a=1; jwt_token=x.y=; b=2" }))).toBe("x.y=");
  expect(sessionCookie(new Headers({ cookie: "xjwt_token=1; jwt_token=" }))).toBeNull();
});

test("the session cookie changes something only for pages of this origin, or for no page", () => {
  const serveUrl = "https://ci.example.org";
  const origins = { serveUrl, pageOrigins: ["https://ui.example.org"] };
  const allows = (method: string, headers: Record<string, string>) =>
    isOwnPageWrite(new Request(`${serveUrl}/api/v1/caches/main/public`, { method, headers }), origins);
  const cookie = "jwt_token=c";

  expect(allows("POST", { cookie })).toBe(true);
  expect(allows("POST", { cookie, origin: serveUrl })).toBe(true);
  expect(allows("POST", { cookie, "sec-fetch-site": "same-origin", origin: serveUrl })).toBe(true);
  expect(allows("POST", { cookie, origin: "https://evil.example.org" })).toBe(false);
  expect(allows("POST", { cookie, origin: "http://ci.example.org:8080" })).toBe(false);
  expect(allows("DELETE", { cookie, "sec-fetch-site": "same-site" })).toBe(false);
  expect(allows("POST", { cookie, "sec-fetch-site": "same-site", origin: "https://evil.example.org" })).toBe(false);
  expect(allows("POST", { cookie, "sec-fetch-site": "same-site", origin: "https://ui.example.org" })).toBe(true);
  expect(allows("POST", { cookie, "sec-fetch-site": "cross-site", origin: "null" })).toBe(false);
  expect(allows("GET", { cookie, "sec-fetch-site": "cross-site" })).toBe(true);
  expect(allows("POST", { authorization: "Bearer t", origin: "https://evil.example.org" })).toBe(true);
});
