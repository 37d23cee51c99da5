import type { Transporter } from "nodemailer";
import { type Mailer, MailRefusedError } from "#core/ports/mailer.ts";
import type { MailConfig } from "./config/mail.ts";

export type MailerOptions = Pick<MailConfig, "host" | "port" | "tls" | "credentials" | "from"> & {
  /** Beside those that the machine trusts: PEM. */
  readonly certificates?: readonly string[];
};

const CONNECT_MS = 10_000;
const GREETING_MS = 10_000;
/** Of silence. */
const SOCKET_MS = 30_000;

/**
 * Mails over SMTP, a connection each: they are few. With `starttls` nothing is sent, no password either, to a server
 * that does not offer it; certificates are always checked. What sends them is loaded with the first: many servers never
 * send one.
 */
export function createMailer({ host, port, tls, credentials, from, certificates }: MailerOptions): Mailer {
  const options = {
    host,
    port,
    secure: tls === "implicit",
    requireTLS: tls === "starttls",
    ignoreTLS: tls === "none",
    tls: { minVersion: "TLSv1.2" as const, ...(certificates && { ca: [...certificates] }) },
    ...(credentials && { auth: { user: credentials.username, pass: credentials.password } }),
    connectionTimeout: CONNECT_MS,
    greetingTimeout: GREETING_MS,
    socketTimeout: SOCKET_MS,
    disableFileAccess: true,
    disableUrlAccess: true,
  };
  const open = async (): Promise<Transporter> => {
    const { createTransport } = await import("nodemailer");
    return createTransport(options);
  };
  let transport: Promise<Transporter> | null = null;
  const loaded = (): Promise<Transporter> => {
    // A module that could not be read once (too many open files) can be read later.
    transport ??= open().catch((error: unknown) => {
      transport = null;
      throw error;
    });
    return transport;
  };
  const domain = from.address.slice(from.address.lastIndexOf("@") + 1);
  return {
    async send({ id, to, subject, text, html }) {
      const headers = { "Auto-Submitted": "auto-generated" };
      const messageId = `<${id}@${domain}>`;
      try {
        // As an object: in a text, a comma in an address would be a second one.
        await (await loaded()).sendMail({
          from,
          to: { name: "", address: to },
          subject,
          text,
          html,
          messageId,
          headers,
        });
      } catch (error) {
        throw isRefusal(error) ? new MailRefusedError(error.message, { cause: error }) : error;
      }
    },
  };
}

/** What the server said about this mail, and not about us: RFC 5321 section 4.2.1, codes 5yz to RCPT and DATA. */
function isRefusal(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  const { code, responseCode, command } = error as { code?: unknown; responseCode?: unknown; command?: unknown };
  const aboutMail = code === "EMESSAGE" || (code === "EENVELOPE" && String(command).startsWith("RCPT"));
  return aboutMail && typeof responseCode === "number" && responseCode >= 500 && responseCode < 600;
}
