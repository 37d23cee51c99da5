import fc from "fast-check";
import { expect, test } from "vitest";
import { CronError, nextCronTime, parseCron } from "./cron.ts";

function nextOf(text: string, after: string): string | null {
  const time = nextCronTime(parseCron(text), Date.parse(after));
  return time === null ? null : new Date(time).toISOString();
}

test("the next time comes after the moment that is asked about, to the second and in UTC", () => {
  const cases: [string, string, string][] = [
    ["0 30 4 * * *", "2026-03-01T04:29:59.999Z", "2026-03-01T04:30:00.000Z"],
    ["0 30 4 * * *", "2026-03-01T04:30:00.000Z", "2026-03-02T04:30:00.000Z"],
    ["* * * * * *", "2026-03-01T04:30:00.500Z", "2026-03-01T04:30:01.000Z"],
    ["*/15 * * * * *", "2026-03-01T04:30:16.000Z", "2026-03-01T04:30:30.000Z"],
    ["59 59 23 31 dec ?", "2026-12-31T23:59:58.000Z", "2026-12-31T23:59:59.000Z"],
    ["59 59 23 31 dec ?", "2026-12-31T23:59:59.000Z", "2027-12-31T23:59:59.000Z"],
    ["0 0 0 29 feb *", "2026-01-01T00:00:00.000Z", "2028-02-29T00:00:00.000Z"],
    ["0 0 0 29 2 *", "2096-03-01T00:00:00.000Z", "2104-02-29T00:00:00.000Z"],
    ["0 0/20 9-17 * * Mon-Fri", "2026-11-20T17:40:00.000Z", "2026-11-23T09:00:00.000Z"],
    ["0 0 12 1,15 * *", "2026-11-02T00:00:00.000Z", "2026-11-15T12:00:00.000Z"],
    ["0 5 0 * October *", "2026-11-02T00:00:00.000Z", "2027-10-01T00:05:00.000Z"],
    ["0 0 0 31 * *", "2026-04-01T00:00:00.000Z", "2026-05-31T00:00:00.000Z"],
  ];
  for (const [text, after, next] of cases) expect([text, nextOf(text, after)]).toEqual([text, next]);
});

test("weekdays are counted from 1, Sunday, and a day has to fit the month's field as well", () => {
  // 2026-11-22 is a Sunday.
  expect(nextOf("0 0 0 * * 1", "2026-11-18T00:00:00Z")).toBe("2026-11-22T00:00:00.000Z");
  expect(nextOf("0 0 0 * * 7", "2026-11-18T00:00:00Z")).toBe("2026-11-21T00:00:00.000Z");
  expect(nextOf("0 0 0 * * sun", "2026-11-18T00:00:00Z")).toBe("2026-11-22T00:00:00.000Z");
  expect(nextOf("0 0 0 13 * fri", "2026-11-18T00:00:00Z")).toBe("2027-08-13T00:00:00.000Z");
  expect(nextOf("0 0 0 29 feb mon", "2026-01-01T00:00:00Z")).toBe("2044-02-29T00:00:00.000Z");
});

test("what is no schedule is refused with words that say what to write", () => {
  const cases: [string, RegExp][] = [
    ["", /six fields/],
    ["0 4 * * *", /six fields.*0 30 4 \* \* \*/],
    ["0 0 0 * * * 2027", /six fields/],
    ["60 * * * * *", /seconds: `60` is not a number from 0 to 59/],
    ["0 0 24 * * *", /hours: `24`/],
    ["0 0 0 0 * *", /day of the month: `0`/],
    ["0 0 0 * 13 *", /month: `13`.*jan|month: `13`.*feb/],
    ["0 0 0 * * 0", /day of the week: `0` is not a number from 1 to 7 \(1 is Sunday\)/],
    ["0 0 0 * * monkey", /day of the week: `monkey`/],
    ["0 0 0 * mon *", /month: `mon`/],
    ["0 */0 * * * *", /minutes: a step of 0/],
    ["0 30-10 * * * *", /minutes: `30-10` ends before it begins/],
    ["0 1-2-3 * * * *", /minutes: `1-2-3`/],
    ["0 1,,2 * * * *", /minutes: ``/],
    ["0 -1 * * * *", /minutes/],
    ["0 0 0 30 feb *", /no such day ever comes/],
    [`0 ${"1,".repeat(200)}1 * * * *`, /longer than 256/],
  ];
  for (const [text, words] of cases) {
    expect(() => parseCron(text), text).toThrow(CronError);
    expect(() => parseCron(text), text).toThrow(words);
  }
});

test("any text is a schedule or a CronError, and what a schedule gives next is later and fits it", () => {
  const field = fc.oneof(
    fc.constantFrom("*", "?", "*/7", "1", "3-5", "2,4", "mon", "feb-apr", "1-10/3", "0", "59", "x"),
    fc.string({ maxLength: 5 }),
  );
  const texts = fc.array(field, { minLength: 5, maxLength: 7 }).map((parts) => parts.join(" "));
  fc.assert(
    fc.property(texts, fc.integer({ min: 0, max: 4_102_444_800_000 }), (text, after) => {
      const schedule = parsedOrNull(text);
      const next = schedule && nextCronTime(schedule, after);
      if (!schedule || next === null) return;
      const date = new Date(next);
      expect(next).toBeGreaterThan(after);
      expect(schedule.seconds).toContain(date.getUTCSeconds());
      expect(schedule.minutes).toContain(date.getUTCMinutes());
      expect(schedule.hours).toContain(date.getUTCHours());
      expect(schedule.days.has(date.getUTCDate()) && schedule.weekdays.has(date.getUTCDay())).toBe(true);
    }),
  );
});

function parsedOrNull(text: string) {
  try {
    return parseCron(text);
  } catch (error) {
    expect(error).toBeInstanceOf(CronError);
    return null;
  }
}
