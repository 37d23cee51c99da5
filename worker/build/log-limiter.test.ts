import { expect, test } from "vitest";
import { type Clock, MINUTE, systemClock } from "#core/lib/clock.ts";
import { LogLimiter } from "./log-limiter.ts";

function clockAt(time: { ms: number }): Clock {
  return { ...systemClock, monotonic: () => time.ms };
}

test("a burst is allowed, and again when a minute has passed", () => {
  const time = { ms: 0 };
  const limiter = new LogLimiter(clockAt(time), { bytesPerMinute: 100, bytesPerHour: 1000 });
  expect(limiter.take(100)).toBe("allowed");
  time.ms += MINUTE;
  expect(limiter.take(100)).toBe("allowed");
  time.ms += MINUTE / 2;
  expect(limiter.take(51)).toBe("first-refusal");
});

test("what keeps below the minute's limit is stopped by the hour's", () => {
  const time = { ms: 0 };
  const limiter = new LogLimiter(clockAt(time), { bytesPerMinute: 100, bytesPerHour: 300 });
  const answers = Array.from({ length: 5 }, () => {
    time.ms += MINUTE;
    return limiter.take(100);
  });
  expect(answers).toEqual(["allowed", "allowed", "allowed", "first-refusal", "refused"]);
});

test("after the first refusal nothing is allowed any more", () => {
  const time = { ms: 0 };
  const limiter = new LogLimiter(clockAt(time), { bytesPerMinute: 10, bytesPerHour: 100 });
  expect(limiter.take(11)).toBe("first-refusal");
  time.ms += 100 * MINUTE;
  expect(limiter.take(1)).toBe("refused");
});
