import { foreignKeyViolation } from "../db/violations.ts";
import { DomainError } from "../errors.ts";

/** For a rejection: what a new row points to was there when it was looked for, and is gone when it is written. */
export function refuseVanished(error: unknown): never {
  if (!foreignKeyViolation(error)) throw error;
  throw new DomainError("conflict", "Something that this refers to was deleted at this moment: look again");
}
