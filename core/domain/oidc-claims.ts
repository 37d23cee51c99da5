import { isDisplayName, isEmail, isUsername } from "./names.ts";

/** What a provider says of whoever signed in, as far as it may be believed and kept. */
export interface OidcProfile {
  readonly issuer: string;
  readonly subject: string;
  readonly username: OidcUsername;
  /** A display name; null when the provider tells none. */
  readonly name: string | null;
  /** Null when the provider tells none, or one that is no address. */
  readonly email: OidcEmail | null;
  /** Null when the provider does not say here which groups there are: nothing follows from that. */
  readonly groups: readonly string[] | null;
}

export interface OidcUsername {
  /** The provider's own. An account that the operator made may have it, though nobody could register it. */
  readonly word: string;
  /** The word itself where it is a user name, else the nearest that is one. Other words may lead to it, too. */
  readonly nearest: string;
}

export interface OidcEmail {
  readonly address: string;
  /** The provider has seen that whoever signed in reads what is sent there. */
  readonly verified: boolean;
}

/** The claims cannot be used. The message says why, for the operator. */
export class OidcClaimsError extends Error {
  override readonly name = "OidcClaimsError";
}

/** OpenID Connect Core 1.0 section 2. */
const SUBJECT_MAX_LENGTH = 255;
const TEXT_MAX_LENGTH = 1_000;
const GROUPS_MAX = 10_000;
const USERNAME_MAX_LENGTH = 50;
const NAME_MAX_BYTES = 100;

type Claims = Readonly<Record<string, unknown>>;

/** The claims of an ID token whose signature, issuer and audience were checked. Throws `OidcClaimsError`. */
export function profileOf(claims: Claims): OidcProfile {
  const issuer = text(claims, "iss");
  const subject = text(claims, "sub");
  if (!issuer) throw new OidcClaimsError("the claim iss is no issuer's name");
  if (!subject || !/^[\x20-\x7e]+$/.test(subject) || subject.length > SUBJECT_MAX_LENGTH) {
    throw new OidcClaimsError(`the claim sub must be 1 to ${SUBJECT_MAX_LENGTH} characters of ASCII`);
  }
  const word = text(claims, "preferred_username") ?? subject;
  return {
    issuer,
    subject,
    username: { word, nearest: nearestUsername(word) },
    name: displayNameFrom(text(claims, "name") ?? ""),
    email: emailFrom(claims),
    groups: groupsFrom(claims),
  };
}

/** Whether the ID token leaves out what the provider may tell at its userinfo endpoint. */
export function isSparse(idToken: Claims): boolean {
  const wanted = ["preferred_username", "name", "email", "email_verified", "groups"];
  return wanted.some((name) => idToken[name] === undefined);
}

/** The ID token's word counts. What is said of an address is said of the address beside it. */
export function withUserInfo(idToken: Claims, userInfo: Claims): Claims {
  const { email_verified: verified, ...rest } = userInfo;
  const sameAddress = idToken.email === undefined || idToken.email === userInfo.email;
  return { ...rest, ...(sameAddress && { email_verified: verified }), ...idToken };
}

/**
 * A user name by our rules, or nearly: of an address what stands before the `@`, with `-` for what no name may hold.
 * Where nothing is left it is the reserved word `user`, which takes a number.
 */
export function nearestUsername(word: string): string {
  if (isUsername(word)) return word;
  const [local = ""] = word.split("@");
  const plain = local.normalize("NFKD").replace(/\p{M}+/gu, "");
  const name = shorten(plain.replace(/[^A-Za-z0-9]+/g, "-"), USERNAME_MAX_LENGTH);
  return isUsername(name) ? name : shorten(`user-${name}`, USERNAME_MAX_LENGTH);
}

/** What is tried where a name that was made cannot be had. */
export function numberedUsername(name: string, number: number): string {
  const suffix = `-${number}`;
  return `${shorten(name, USERNAME_MAX_LENGTH - suffix.length)}${suffix}`;
}

/** Null when nothing of it can stand in a display name. */
export function displayNameFrom(words: string): string | null {
  const allowed = words.replace(/[^\p{L}\p{N}'._-]+/gu, " ").trim();
  let name = "";
  let bytes = 0;
  for (const character of allowed.slice(0, NAME_MAX_BYTES)) {
    bytes += new TextEncoder().encode(character).length;
    if (bytes > NAME_MAX_BYTES) break;
    name += character;
  }
  name = name.trim();
  return isDisplayName(name) ? name : null;
}

function emailFrom(claims: Claims): OidcEmail | null {
  const address = text(claims, "email");
  if (!address || !isEmail(address)) return null;
  // Some providers send the boolean as a text.
  const verified = claims.email_verified === true || claims.email_verified === "true";
  return { address, verified };
}

function groupsFrom(claims: Claims): readonly string[] | null {
  const { groups } = claims;
  if (groups === undefined || groups === null) return isElsewhere(claims, "groups") ? null : [];
  const list: readonly unknown[] = typeof groups === "string" ? [groups] : Array.isArray(groups) ? groups : [null];
  if (list.length > GROUPS_MAX) throw new OidcClaimsError(`the claim groups has more than ${GROUPS_MAX} entries`);
  const names = list.filter((group): group is string => typeof group === "string" && !group.includes("\0"));
  if (names.length < list.length) throw new OidcClaimsError("the claim groups is not a list of names");
  return names;
}

/** OpenID Connect Core 1.0 section 5.6.2: too many groups for one token are to be asked for at another address. */
function isElsewhere(claims: Claims, name: string): boolean {
  const names = claims._claim_names;
  return typeof names === "object" && names !== null && name in names;
}

/** Null also for what nobody is called. */
function text(claims: Claims, name: string): string | null {
  const value = claims[name];
  if (typeof value !== "string" || value === "" || value.includes("\0")) return null;
  return value.length > TEXT_MAX_LENGTH ? null : value;
}

/** Without `-` at its ends. */
function shorten(name: string, lengthMax: number): string {
  return name.replace(/^-+/, "").slice(0, lengthMax).replace(/-+$/, "");
}
