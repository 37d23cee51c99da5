import { expect, test } from "vitest";
import { ManualClock } from "#test/support/manual-clock.ts";
import { findClient } from "./client-address.ts";
import { RATE_TIERS, RateLimits, type RateTier, tooManyRequests } from "./rate-limits.ts";

const stranger = (address: string) => findClient(address, null, []);
const TIERS = Object.keys(RATE_TIERS) as RateTier[];

test("each tier lets its burst through at once and refuses the next until its interval is over", async () => {
  for (const tier of TIERS) {
    const clock = new ManualClock();
    const limits = new RateLimits(clock);
    const { burst, refillMs } = RATE_TIERS[tier];
    for (let i = 0; i < burst; i++) expect(limits.take(tier, stranger("203.0.113.9"))).toBe(0);

    expect(limits.take(tier, stranger("203.0.113.9"))).toBeCloseTo(refillMs, 6);
    expect(limits.take(tier, stranger("203.0.113.10"))).toBe(0);
    await clock.advance(Math.ceil(refillMs));
    expect(limits.take(tier, stranger("203.0.113.9"))).toBe(0);
  }
});

test("metrics may be asked for six times a second, with a burst of five", async () => {
  const clock = new ManualClock();
  const limits = new RateLimits(clock);
  const scrape = () => limits.take("metrics", stranger("203.0.113.9")) === 0;
  const given = [];
  for (let second = 0; second < 3; second++) {
    given.push(Array.from({ length: 20 }, scrape).filter(Boolean).length);
    await clock.advance(1_000);
  }

  // The bucket holds no more than five, however long nobody came.
  expect(given).toEqual([5, 5, 5]);
  let inOneSecond = 0;
  for (let tenth = 0; tenth < 10; tenth++) {
    await clock.advance(100);
    if (scrape()) inOneSecond++;
  }
  expect(inOneSecond).toBeGreaterThanOrEqual(6);
});

test("an IPv6 customer has one bucket for all the addresses of his network", () => {
  const limits = new RateLimits(new ManualClock());
  for (let i = 0; i < 5; i++) limits.take("auth", stranger(`2001:db8:0:1::${i}`));

  expect(limits.take("auth", stranger("2001:db8:0:1:ffff::1"))).toBeGreaterThan(0);
  expect(limits.take("auth", stranger("2001:db8:0:2::1"))).toBe(0);
});

test("a trusted proxy that names no client is not limited, but for passwords, hooks and metrics", () => {
  const limits = new RateLimits(new ManualClock());
  const isLimited = (tier: RateTier) => {
    for (let i = 0; i < RATE_TIERS[tier].burst; i++) limits.take(tier, { network: "127.0.0.1", trusted: true });
    return limits.take(tier, { network: "127.0.0.1", trusted: true }) > 0;
  };

  expect(TIERS.filter(isLimited)).toEqual(["auth", "webhook", "metrics"]);
});

test("the refusal is in the envelope and says when to come again", async () => {
  const response = tooManyRequests(5_200);

  expect(response.status).toBe(429);
  expect(response.headers.get("retry-after")).toBe("6");
  expect(response.headers.get("cache-control")).toBe("no-store");
  expect(await response.json()).toEqual({
    error: true,
    code: "too_many_requests",
    message: "Too many requests from your address: try again in 6 seconds",
  });
});
