/**
 * A broken promise of our own code, never of input: what a caller sent is refused with `DomainError` or a parse
 * error.
 */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Stays on in production: a process that goes on after a false assertion does harm. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The default arm of a `switch` over a closed union: a new member does not compile until it has an arm. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
