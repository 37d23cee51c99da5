import type { Hono } from "hono";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RateLimits } from "#core/http/rate-limits.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import type { AppEnv } from "#handlers/env.ts";
import type { AnsweredRequest } from "#handlers/middleware/observe.ts";
import { ManualClock } from "#test/support/manual-clock.ts";
import { type TestApp, withApp } from "./support.ts";

const STRANGER = "203.0.113.9";

let t: TestApp;
beforeAll(async () => {
  t = await withApp();
});
afterAll(() => t[Symbol.asyncDispose]());

function appWith(http: Partial<AppDeps["http"]>): Hono<AppEnv> {
  return createApp({ ...t.deps, http: { ...t.deps.http, ...http } });
}

interface Asking {
  readonly peer?: string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

async function ask(app: Hono<AppEnv>, path: string, { peer = STRANGER, method = "GET", headers }: Asking = {}) {
  return await app.request(`http://127.0.0.1:3000${path}`, { method, headers: { "x-test-peer": peer, ...headers } });
}

/** How many of `count` requests at once are let through. */
async function passed(app: Hono<AppEnv>, path: string, count: number, asking?: (i: number) => Asking): Promise<number> {
  const statuses = await Promise.all(
    Array.from({ length: count }, async (_, i) => (await ask(app, path, asking?.(i))).status),
  );
  return statuses.filter((status) => status !== 429).length;
}

test("guesses of passwords and codes are held to five, and then one in six seconds", async () => {
  const clock = new ManualClock();
  const app = appWith({ rates: new RateLimits(clock) });
  const guess = () => ({ method: "POST" });

  expect(await passed(app, "/api/v1/auth/basic/login", 8, guess)).toBe(5);
  const refused = await ask(app, "/api/v1/auth/check-username", guess());
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "6"]);
  expect(refused.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  expect(await refused.json()).toEqual({
    error: true,
    code: "too_many_requests",
    message: "Too many requests from your address: try again in 6 seconds",
  });
  await clock.advance(6_000);
  expect(await passed(app, "/api/v1/auth/basic/login", 2, guess)).toBe(1);
  expect(await passed(app, "/api/v1/auth/logout", 20, guess)).toBe(20);
});

test("whoever has a session guesses the password of its user no faster than who has none", async () => {
  for (const [method, path] of [
    ["POST", "/api/v1/user/password"],
    ["DELETE", "/api/v1/user"],
  ] as const) {
    const app = appWith({ rates: new RateLimits(new ManualClock()) });
    expect([path, await passed(app, path, 8, () => ({ method }))]).toEqual([path, 5]);
    expect((await ask(app, "/api/v1/auth/basic/login", { method: "POST" })).status).toBe(429);
    expect(await passed(app, "/api/v1/user", 20)).toBe(20);
  }
});

test("the default tier holds all of the API together, and hooks have one of their own on top of it", async () => {
  const app = appWith({ rates: new RateLimits(new ManualClock()) });

  expect(await passed(app, "/api/v1/hooks/github", 40)).toBe(30);
  expect(await passed(app, "/api/v1/health", 150)).toBe(110);
  expect(await passed(app, "/api/v1/no-such-route", 3)).toBe(0);
  expect((await ask(app, "/api/v1/health", { peer: "203.0.113.10" })).status).toBe(200);
});

test("GRADIENT_TRUSTED_PROXIES: a header that anyone may send moves nobody to other limits", async () => {
  const forged = (i: number) => ({ method: "POST", headers: { "x-forwarded-for": `198.51.100.${i}` } });
  const forwarded = (i: number) => ({ ...forged(i), peer: "127.0.0.1" });

  const direct = appWith({ rates: new RateLimits(new ManualClock()) });
  expect(await passed(direct, "/api/v1/auth/basic/login", 20, forged)).toBe(5);
  const proxied = appWith({ rates: new RateLimits(new ManualClock()) });
  expect(await passed(proxied, "/api/v1/auth/basic/login", 20, forwarded)).toBe(20);
});

test("GRADIENT_MAX_REQUEST_SIZE: a larger body is refused with what is allowed", async () => {
  const app = appWith({ requestBytesMax: 1_024 });
  const headers = { "content-length": "1025", "content-type": "application/json" };

  const answer = await ask(app, "/api/v1/auth/basic/login", { method: "POST", headers });

  expect(answer.status).toBe(413);
  expect(await answer.text()).toContain("larger than the 1024 bytes");
});

test("files of build requests may have 20 MiB, whatever other requests may", async () => {
  const app = appWith({ requestBytesMax: 1_024 });
  const path = "/api/v1/build-requests/0190a1b2-0000-7000-8000-000000000000/blobs";
  const send = async (bytes: number) =>
    (await ask(app, path, { method: "POST", headers: { "content-length": String(bytes) } })).status;

  expect(await send(20 * 1024 * 1024)).toBe(401);
  expect(await send(20 * 1024 * 1024 + 1)).toBe(413);
});

test("every answer of the API, whatever it is, says what browsers may not do with it", async () => {
  const cases: [string, Asking, number][] = [
    ["/api/v1/health", {}, 200],
    ["/api/v1/user", {}, 401],
    ["/api/v1/nothing", {}, 404],
    ["/elsewhere", {}, 404],
    ["/api/v1/health", { method: "DELETE" }, 405],
    ["/api/v1/auth/basic/login", { method: "POST", headers: { "content-length": "9999999" } }, 413],
  ];
  for (const [path, asking, status] of cases) {
    const answer = await ask(t.app, path, asking);
    expect([path, answer.status]).toEqual([path, status]);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "x-request-id": expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
  }
});

test("a method that an address does not answer is refused with those that it does", async () => {
  const answer = await ask(t.app, "/api/v1/orgs/acme/workers", { method: "DELETE" });

  expect([answer.status, answer.headers.get("allow")]).toEqual([405, "GET, HEAD, POST"]);
  expect(await answer.json()).toEqual({
    error: true,
    code: "method_not_allowed",
    message: "This address is not answered to the method DELETE: use GET or HEAD or POST",
  });
});

test("scripts of our own pages may read answers with the visitor's cookie, and no others", async () => {
  const app = appWith({ pageOrigins: ["http://127.0.0.1:8000"] });
  const from = async (origin: string) => (await ask(app, "/api/v1/health", { headers: { origin } })).headers;

  for (const origin of ["https://ci.example.com", "http://127.0.0.1:8000"]) {
    const headers = await from(origin);
    expect(headers.get("access-control-allow-origin")).toBe(origin);
    expect(headers.get("access-control-allow-credentials")).toBe("true");
    expect(headers.get("vary")).toBe("Origin");
  }
  for (const origin of ["https://evil.example", "null", "https://ci.example.com.evil.example"]) {
    const headers = await from(origin);
    expect(headers.get("access-control-allow-origin")).toBeNull();
    expect(headers.get("access-control-allow-credentials")).toBeNull();
  }
  const failed = await ask(app, "/api/v1/user", { headers: { origin: "https://ci.example.com" } });
  expect([failed.status, failed.headers.get("access-control-allow-origin")]).toEqual([401, "https://ci.example.com"]);
});

test("a browser that asks before a request is told which methods and headers our pages may use", async () => {
  const preflight = (origin: string) => {
    const headers = {
      origin,
      "access-control-request-method": "PATCH",
      "access-control-request-headers": "authorization",
    };
    return ask(t.app, "/api/v1/orgs/acme", { method: "OPTIONS", headers });
  };

  const ours = await preflight("https://ci.example.com");
  expect(ours.status).toBe(204);
  expect(ours.headers.get("access-control-allow-methods")).toContain("PATCH");
  expect(ours.headers.get("access-control-allow-headers")).toBe("Authorization, Accept, Content-Type");
  const others = await preflight("https://evil.example");
  expect(others.headers.get("access-control-allow-methods")).toBeNull();
  expect(others.headers.get("access-control-allow-origin")).toBeNull();
});

test("answers are told of by the pattern of their route, never by the address", async () => {
  const answered: AnsweredRequest[] = [];
  const app = appWith({ onAnswered: (one) => void answered.push(one) });

  await ask(app, "/api/v1/health");
  await ask(app, "/api/v1/orgs/secret-name/workers");
  await ask(app, "/api/v1/made/up");
  await ask(app, "/api/v1/health", { method: "DELETE" });

  expect(answered.map(({ method, route, status }) => [method, route, status])).toEqual([
    ["GET", "/api/v1/health", 200],
    ["GET", "/api/v1/orgs/:org/workers", 401],
    ["GET", "none", 404],
    ["DELETE", "none", 405],
  ]);
});

test("pages beyond any list and sizes beyond the limit are clamped, and what is no number is refused", async () => {
  const { token } = await t.user("pager");
  const page = async (query: string) => {
    const { status, body } = await t.ask("GET", `/orgs?${query}`, { token });
    const { page: number, per_page: size } = body.message as { page: number; per_page: number };
    return status === 200 ? [number, size] : body.code;
  };

  expect(await page("")).toEqual([1, 50]);
  expect(await page("page=0&per_page=0")).toEqual([1, 1]);
  expect(await page("page=2&per_page=1000")).toEqual([2, 100]);
  expect(await page("page=999999999")).toEqual([1_000_000, 50]);
  for (const query of ["page=-1", "page=1.5", "per_page=x", "page=", "per_page=99999999999"]) {
    expect([query, await page(query)]).toEqual([query, "validation"]);
  }
});
