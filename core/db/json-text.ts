/** A value as text for a `jsonb` column: PostgreSQL takes neither NUL nor halves of surrogate pairs (section 8.14). */
export function jsonbText(value: unknown): string {
  return JSON.stringify(value, (_, item: unknown) =>
    typeof item === "string" ? item.toWellFormed().replaceAll("\0", "\ufffd") : item,
  );
}
