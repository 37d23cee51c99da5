import { DomainError } from "../errors.ts";

const MIN_BYTES = 8;
const MAX_BYTES = 128;
const SPECIAL = "!@#$%^&*()_+-=[]{}|;:,.<>?\\";
const RUN_LENGTH = 4;

/** Throws `invalid_password` with the first rule that the password breaks; the message never holds the password. */
export function requirePassword(password: string): void {
  const broken = brokenRule(password);
  if (broken) throw new DomainError("invalid_password", `password ${broken}`);
}

/** What was typed at a login is not hashed when it is longer: no password can be. */
export function isPasswordLength(password: string): boolean {
  return new TextEncoder().encode(password).length <= MAX_BYTES;
}

function brokenRule(password: string): string | null {
  const length = new TextEncoder().encode(password).length;
  if (length < MIN_BYTES || length > MAX_BYTES) return `must be ${MIN_BYTES} to ${MAX_BYTES} bytes long`;
  if (!/\p{Lu}/u.test(password)) return "must contain an upper-case letter";
  if (!/\p{Ll}/u.test(password)) return "must contain a lower-case letter";
  if (!/\p{Nd}/u.test(password)) return "must contain a digit";
  if (![...password].some((character) => SPECIAL.includes(character))) return `must contain one of ${SPECIAL}`;
  if (password.toLowerCase().includes("password")) return 'must not contain the word "password"';
  if (/(.)\1\1/su.test(password)) return "must not contain one character three times in a row";
  if (hasAscendingRun(password)) return `must not contain ${RUN_LENGTH} characters in ascending order, such as "1234"`;
  return null;
}

function hasAscendingRun(password: string): boolean {
  let run = 1;
  for (let i = 1; i < password.length; i++) {
    run = password.charCodeAt(i) === password.charCodeAt(i - 1) + 1 ? run + 1 : 1;
    if (run === RUN_LENGTH) return true;
  }
  return false;
}
