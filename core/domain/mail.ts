import { DAY, HOUR, SECOND } from "../lib/clock.ts";

/** What the server writes to people about their accounts. */
export type MailKind =
  | "verify_address"
  | "reset_password"
  | "no_password"
  | "password_changed"
  | "address_asked"
  | "address_changed";

export interface MailFacts {
  readonly username: string;
  /** Where the web interface is, without a trailing slash. */
  readonly frontendUrl: string;
  /** To be followed by the reader; null in mails that only tell something. */
  readonly link: string | null;
}

export interface MailText {
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

/** How long a link is good. */
export const ADDRESS_LINK_MS: number = DAY;
export const PASSWORD_LINK_MS: number = HOUR;

/** A mail that found no mail server for a day is not sent any more. */
const TRIED_MS: number = DAY;
const RETRY_MS_MIN: number = 10 * SECOND;
const RETRY_MS_MAX: number = HOUR;

/** After the attempt of this number, from 1, failed; null: it was the last one. `ageMs`: since the mail was written. */
export function mailRetryMs(attempt: number, ageMs: number): number | null {
  const pause = Math.min(RETRY_MS_MIN * 2 ** (attempt - 1), RETRY_MS_MAX);
  return ageMs + pause < TRIED_MS ? pause : null;
}

/** Plain text, and the same as HTML for readers who show no other. */
export function writeMail(kind: MailKind, facts: MailFacts): MailText {
  const { subject, before, link, after } = WORDS[kind](facts);
  const greeting = `Hello ${facts.username},`;
  const closing = `Gradient at ${facts.frontendUrl}`;
  const linkLines = link === null ? [] : [link];
  const text = [greeting, ...before, ...linkLines, ...after, closing].join("\n\n");
  const paragraphs = (lines: readonly string[]) => lines.map((line) => `<p>${escapeHtml(line)}</p>`);
  const anchor = linkLines.map((url) => `<p><a href="${escapeHtml(url)}">${escapeHtml(url)}</a></p>`);
  const body = [...paragraphs([greeting, ...before]), ...anchor, ...paragraphs([...after, closing])].join("\n");
  return {
    subject: `${subject} - Gradient`,
    text: `${text}\n`,
    html: `<!doctype html>\n<html><body>\n${body}\n</body></html>\n`,
  };
}

interface Words {
  readonly subject: string;
  readonly before: readonly string[];
  readonly link: string | null;
  readonly after: readonly string[];
}

const WORDS: Readonly<Record<MailKind, (facts: MailFacts) => Words>> = {
  verify_address: ({ link }) => ({
    subject: "Verify your email address",
    before: ["this address was given for your account. Follow this link to show that it is yours:"],
    link,
    after: [
      "The link is good for one day. If you have no account here, do nothing: nobody can use it without the link.",
    ],
  }),
  reset_password: ({ link }) => ({
    subject: "Set a new password",
    before: ["somebody asked for a new password for your account. If it was you, set one here:"],
    link,
    after: ["The link is good for one hour, and once. If it was not you, do nothing: your password stays as it is."],
  }),
  no_password: ({ frontendUrl }) => ({
    subject: "Your account has no password of its own",
    before: [
      "somebody asked for a new password for your account, but its password is not kept here, or is set in the " +
        "server's configuration. Sign in as you did before, or ask the operator of this server.",
    ],
    link: `${frontendUrl}/account/login`,
    after: [],
  }),
  password_changed: () => ({
    subject: "Your password was changed",
    before: ["the password of your account was changed, and all other sessions were ended."],
    link: null,
    after: ["If it was not you, ask for a new password at once, and look at your API keys: they still work."],
  }),
  address_asked: () => ({
    subject: "Another email address was asked for",
    before: [
      "somebody asked for another email address for your account, and gave your password. A link was sent to the new " +
        "address: once it is followed, mails about your account go there.",
    ],
    link: null,
    after: ["If it was not you, set a new password at once: it makes that link useless, and ends all other sessions."],
  }),
  address_changed: () => ({
    subject: "Your email address was changed",
    before: [
      "your account has another email address now, and mails about it go there. This is the last one to this address.",
    ],
    link: null,
    after: ["If it was not you, tell the operator of this server."],
  }),
};

function escapeHtml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;")
    .replaceAll("'", "&#39;");
}
