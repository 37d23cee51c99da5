import { expect, test } from "vitest";
import { apiToken, cacheToken, sessionCookie } from "./credentials.ts";

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
