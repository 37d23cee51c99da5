/** When something happens again and again, to the second, in UTC. */
export interface CronSchedule {
  readonly seconds: readonly number[];
  readonly minutes: readonly number[];
  readonly hours: readonly number[];
  readonly days: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  /** 0 is Sunday. */
  readonly weekdays: ReadonlySet<number>;
}

/** The message is for the person who wrote the schedule. */
export class CronError extends Error {
  override readonly name = "CronError";
}

interface Field {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly names?: readonly string[];
}

const MONTHS: readonly string[] = [
  ...["january", "february", "march", "april", "may", "june"],
  ...["july", "august", "september", "october", "november", "december"],
];
const WEEKDAYS: readonly string[] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const FIELDS = {
  seconds: { name: "seconds", min: 0, max: 59 },
  minutes: { name: "minutes", min: 0, max: 59 },
  hours: { name: "hours", min: 0, max: 23 },
  days: { name: "day of the month", min: 1, max: 31 },
  months: { name: "month", min: 1, max: 12, names: MONTHS },
  weekdays: { name: "day of the week", min: 1, max: 7, names: WEEKDAYS },
} as const satisfies Record<keyof CronSchedule, Field>;

const TEXT_LENGTH_MAX = 256;
const DAY_MS = 86_400_000;
/** A 29th of February on a given weekday comes at least once in 40 years, whatever century ends in between. */
const DAYS_AHEAD_MAX = 40 * 366;

/**
 * Six fields with spaces between: seconds, minutes, hours, day of the month, month, day of the week. A field is `*` (or
 * `?`), a number, a name (`mon`, `jan`), a range `a-b`, each with `/step`, or a list of those with commas. Weekdays are
 * counted from 1, Sunday, to 7. A day has to fit both the day of the month and that of the week. Throws `CronError`,
 * also for times that never come.
 */
export function parseCron(text: string): CronSchedule {
  if (text.length > TEXT_LENGTH_MAX) throw new CronError(`it is longer than ${TEXT_LENGTH_MAX} characters`);
  const parts = text.trim().split(/\s+/);
  if (parts.length !== 6) {
    throw new CronError(
      "six fields are needed: seconds, minutes, hours, day of the month, month and day of the week, " +
        "such as `0 30 4 * * *` for half past four each night",
    );
  }
  const [seconds, minutes, hours, days, months, weekdays] = parts as [string, string, string, string, string, string];
  const schedule: CronSchedule = {
    seconds: readField(seconds, FIELDS.seconds),
    minutes: readField(minutes, FIELDS.minutes),
    hours: readField(hours, FIELDS.hours),
    days: new Set(readField(days, FIELDS.days)),
    months: new Set(readField(months, FIELDS.months)),
    weekdays: new Set(readField(weekdays, FIELDS.weekdays).map((day) => day - 1)),
  };
  // From a day of a leap year, so that it does not depend on when somebody asks.
  if (nextCronTime(schedule, 0) === null) throw new CronError("no such day ever comes");
  return schedule;
}

/** The first time after `afterMs`, in milliseconds since the Unix epoch. Null when none comes for 40 years. */
export function nextCronTime(schedule: CronSchedule, afterMs: number): number | null {
  // The next whole second.
  const from = (Math.floor(afterMs / 1_000) + 1) * 1_000;
  const today = Math.floor(from / DAY_MS) * DAY_MS;
  for (let day = 0; day < DAYS_AHEAD_MAX; day++) {
    const midnight = today + day * DAY_MS;
    if (!isOn(schedule, new Date(midnight))) continue;
    const time = firstTimeOfDay(schedule, day === 0 ? (from - midnight) / 1_000 : 0);
    if (time !== null) return midnight + time * 1_000;
  }
  return null;
}

function isOn({ days, months, weekdays }: CronSchedule, date: Date): boolean {
  return months.has(date.getUTCMonth() + 1) && days.has(date.getUTCDate()) && weekdays.has(date.getUTCDay());
}

/** In seconds since midnight, at least `from`. */
function firstTimeOfDay({ hours, minutes, seconds }: CronSchedule, from: number): number | null {
  for (const hour of hours) {
    if (hour * 3_600 + 3_599 < from) continue;
    for (const minute of minutes) {
      const start = hour * 3_600 + minute * 60;
      if (start + 59 < from) continue;
      const second = seconds.find((candidate) => start + candidate >= from);
      if (second !== undefined) return start + second;
    }
  }
  return null;
}

/** In ascending order, each once. */
function readField(text: string, field: Field): number[] {
  const values = new Set<number>();
  for (const part of text.split(",")) for (const value of readPart(part, field)) values.add(value);
  return [...values].sort((a, b) => a - b);
}

function readPart(part: string, field: Field): number[] {
  const [, range = "", step] = /^([^/]*)(?:\/(\d{1,4}))?$/.exec(part) ?? [];
  if (range === "") throw wrong(part, field);
  const stride = step === undefined ? 1 : Number(step);
  if (stride === 0) throw new CronError(`${field.name}: a step of 0 leads nowhere`);
  const [first, last] = readRange(range, field, step !== undefined);
  if (first > last) throw new CronError(`${field.name}: \`${range}\` ends before it begins`);
  return Array.from({ length: Math.floor((last - first) / stride) + 1 }, (_, index) => first + index * stride);
}

function readRange(range: string, field: Field, isStart: boolean): readonly [number, number] {
  if (range === "*" || range === "?") return [field.min, field.max];
  const ends = range.split("-").map((end) => readValue(end, field));
  const [first, last = isStart ? field.max : first] = ends;
  if (first === undefined || last === undefined || ends.length > 2) throw wrong(range, field);
  return [first, last];
}

/** A number, or a name of which the first three letters are enough. */
function readValue(text: string, field: Field): number {
  const name = text.toLowerCase();
  const named = field.names?.findIndex((full) => name === full || name === full.slice(0, 3)) ?? -1;
  if (named >= 0) return named + field.min;
  const value = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= field.min && value <= field.max)) throw wrong(text, field);
  return value;
}

function wrong(text: string, { name, min, max, names }: Field): CronError {
  const also = names ? `, or a name such as ${names[1]?.slice(0, 3)}` : "";
  const sunday = names === WEEKDAYS ? " (1 is Sunday)" : "";
  return new CronError(`${name}: \`${text.slice(0, 40)}\` is not a number from ${min} to ${max}${sunday}${also}`);
}
