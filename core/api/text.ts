import * as v from "valibot";

/** Text as PostgreSQL can keep it: no NUL. `max` counts UTF-16 units. */
export function text(max: number): v.GenericSchema<string> {
  return v.pipe(
    v.string(),
    v.maxLength(max, `is longer than the ${max} characters that are allowed`),
    v.check(isWithoutNul, "contains a NUL character, which no text may"),
  );
}

/**
 * The same for what a program printed: what no text can hold is replaced, as nobody is there who could send it again
 * without.
 */
export function printedText(max: number): v.GenericSchema<string> {
  return v.pipe(
    v.string(),
    v.maxLength(max, `is longer than the ${max} characters that are allowed`),
    v.transform((value) => value.replaceAll("\0", "\uFFFD").toWellFormed()),
  );
}

export function isWithoutNul(value: string): boolean {
  return !value.includes("\0");
}

/** Names whose exact rule the domain checks; here only what no name reaches. */
export const nameText: v.GenericSchema<string> = text(1_000);
export const descriptionText: v.GenericSchema<string> = text(10_000);
/** Longer than any password or token that is accepted. */
export const secretText: v.GenericSchema<string> = text(4_096);

export function wholeNumber(min: number, max: number): v.GenericSchema<number> {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(v.number(), v.integer(message), v.minValue(min, message), v.maxValue(max, message));
}
