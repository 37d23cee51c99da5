import { DomainError } from "../errors.ts";

/** Longer names do not fit into file names, signing key names and log lines together with what is put around them. */
const SLUG_MAX_LENGTH = 100;
const DISPLAY_NAME_MAX_BYTES = 100;
/** RFC 5321 section 4.5.3.1.3 less the angle brackets. */
const EMAIL_MAX_LENGTH = 254;

const SLUG = /^[a-z0-9]+(-+[a-z0-9]+)*$/;
const USERNAME = /^[A-Za-z0-9]+([_-][A-Za-z0-9]+)*$/;
const DISPLAY_NAME = /^[\p{L}\p{N}'._-]+( [\p{L}\p{N}'._-]+)*$/u;
const EMAIL =
  /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$/;

const RESERVED_USERNAMES: readonly string[] =
  "admin root system api www mail ftp test user support help info null undefined".split(" ");
/** What stands at the place of a name in addresses such as `/orgs/available`. */
const ROUTE_WORDS: readonly string[] = ["available", "public"];

/** Names of organizations, projects, caches, roles and integrations. */
export function isSlug(text: string): boolean {
  return text.length <= SLUG_MAX_LENGTH && SLUG.test(text);
}

/** Whether an organization or a cache may be called so: some words at that place are the API's own. */
export function isAddressableSlug(text: string): boolean {
  return isSlug(text) && !ROUTE_WORDS.includes(text);
}

/** `what` begins the message: "name". */
export function requireAddressableSlug(text: string, what: string): string {
  if (!ROUTE_WORDS.includes(text)) return requireSlug(text, what);
  throw new DomainError("invalid_name", `${what} is reserved (${ROUTE_WORDS.join(", ")}): choose another one`);
}

export function requireSlug(text: string, what: string): string {
  if (isSlug(text)) return text;
  throw new DomainError(
    "invalid_name",
    `${what} must be 1 to ${SLUG_MAX_LENGTH} lower-case letters (a-z), digits and \`-\`, without \`-\` at its ends`,
  );
}

export function isUsername(text: string): boolean {
  return hasUsernameForm(text) && !isReserved(text);
}

export function requireUsername(text: string): string {
  if (!hasUsernameForm(text)) {
    throw new DomainError(
      "invalid_username",
      "username must be 3 to 50 letters (A-Z, a-z), digits, and single `_` or `-` between them",
    );
  }
  if (isReserved(text)) throw new DomainError("invalid_username", "username is reserved: choose another one");
  return text;
}

function hasUsernameForm(text: string): boolean {
  return text.length >= 3 && text.length <= 50 && USERNAME.test(text);
}

function isReserved(username: string): boolean {
  return RESERVED_USERNAMES.includes(username.toLowerCase());
}

export function isDisplayName(text: string): boolean {
  return new TextEncoder().encode(text).length <= DISPLAY_NAME_MAX_BYTES && DISPLAY_NAME.test(text);
}

export function requireDisplayName(text: string, what: string): string {
  if (isDisplayName(text)) return text;
  throw new DomainError(
    "invalid_name",
    `${what} must be 1 to ${DISPLAY_NAME_MAX_BYTES} bytes of letters, digits, \`'.-_\` and single spaces between them`,
  );
}

export function isEmail(text: string): boolean {
  return text.length <= EMAIL_MAX_LENGTH && EMAIL.test(text);
}

export function requireEmail(text: string): string {
  if (isEmail(text)) return text;
  throw new DomainError("invalid_email", "email must be an address of the form `name@host`");
}
