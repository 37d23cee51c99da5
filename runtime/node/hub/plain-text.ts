/**
 * A worker's message with U+FFFD for each NUL in its texts. PostgreSQL stores none (section 8.3 of its manual),
 * builders print them, and a report that cannot be recorded would be sent again for ever.
 */
export function withoutNul(value: unknown): unknown {
  if (typeof value === "string") return value.includes("\0") ? value.replaceAll("\0", "\ufffd") : value;
  if (Array.isArray(value)) return value.map(withoutNul);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withoutNul(item)]));
}
