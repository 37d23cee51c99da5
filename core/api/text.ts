import * as v from "valibot";

/** Text as PostgreSQL can keep it: no NUL. `max` counts UTF-16 units. */
export function text(max: number): v.GenericSchema<unknown, string> {
  return v.pipe(
    v.string(),
    v.maxLength(max, `is longer than the ${max} characters that are allowed`),
    v.check((value) => !value.includes("\0"), "contains a NUL character, which no text may"),
  );
}

/** Names whose exact rule the domain checks; here only what no name reaches. */
export const nameText: v.GenericSchema<unknown, string> = text(1_000);
export const descriptionText: v.GenericSchema<unknown, string> = text(10_000);
/** Longer than any password or token that is accepted. */
export const secretText: v.GenericSchema<unknown, string> = text(4_096);

export function wholeNumber(min: number, max: number): v.GenericSchema<unknown, number> {
  const message = `must be a whole number from ${min} to ${max}`;
  return v.pipe(v.number(), v.integer(message), v.minValue(min, message), v.maxValue(max, message));
}
