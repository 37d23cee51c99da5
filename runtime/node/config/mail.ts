import type { EnvironmentReader } from "./reader.ts";

/** `starttls` without TLS in the end is no session: nothing is sent then. */
export type MailTls = "implicit" | "starttls" | "none";

export interface MailConfig {
  readonly host: string;
  readonly port: number;
  readonly tls: MailTls;
  /** Null: the mail server asks for none. */
  readonly credentials: { readonly username: string; readonly password: string } | null;
  readonly from: { readonly name: string; readonly address: string };
  readonly verificationRequired: boolean;
}

/** RFC 8314 section 3.3, and what providers offer beside it where that port is closed. */
const IMPLICIT_TLS_PORTS: readonly number[] = [465, 2465];
const ADDRESS = /^[^\s<>@]+@[^\s<>@]+$/;
const LOOPBACK: readonly string[] = ["localhost", "127.0.0.1", "::1"];

/** Null when mail is off. What is missing then is no mistake. */
export function readMailConfig(reader: EnvironmentReader): MailConfig | null {
  const verificationRequired = reader.boolean("GRADIENT_EMAIL_REQUIRE_VERIFICATION", false);
  if (!reader.boolean("GRADIENT_EMAIL_ENABLED", false)) {
    if (verificationRequired) {
      reader.problems.push("GRADIENT_EMAIL_REQUIRE_VERIFICATION=true: needs GRADIENT_EMAIL_ENABLED=true");
    }
    return null;
  }
  const required = (name: string, what: string): string => {
    const value = reader.text(name);
    if (value === null) reader.problems.push(`${name}: is required with GRADIENT_EMAIL_ENABLED=true: ${what}`);
    return value ?? "";
  };
  const host = required("GRADIENT_EMAIL_SMTP_HOST", "the mail server's name");
  const port = reader.integer("GRADIENT_EMAIL_SMTP_PORT", 587, { min: 1, max: 65_535 });
  const address = required("GRADIENT_EMAIL_FROM_ADDRESS", "who mails come from");
  if (address !== "" && !ADDRESS.test(address)) {
    reader.problems.push(
      `GRADIENT_EMAIL_FROM_ADDRESS=${address.slice(0, 200)}: must be an address such as ci@example.org`,
    );
  }
  const name = reader.text("GRADIENT_EMAIL_FROM_NAME") ?? "Gradient";
  const credentials = readCredentials(reader);
  const tls = readTls(reader, port);
  if (tls === "none" && credentials && !LOOPBACK.includes(host)) {
    reader.problems.push(
      "GRADIENT_EMAIL_ENABLE_TLS=false: the password would be readable on its way to the mail server: turn TLS on, " +
        "or leave out GRADIENT_EMAIL_SMTP_USERNAME",
    );
  }
  return { host, port, tls, credentials, from: { name, address }, verificationRequired };
}

function readTls(reader: EnvironmentReader, port: number): MailTls {
  if (!reader.boolean("GRADIENT_EMAIL_ENABLE_TLS", true)) return "none";
  return IMPLICIT_TLS_PORTS.includes(port) ? "implicit" : "starttls";
}

function readCredentials(reader: EnvironmentReader): MailConfig["credentials"] {
  const username = reader.text("GRADIENT_EMAIL_SMTP_USERNAME");
  const named = reader.text("GRADIENT_EMAIL_SMTP_PASSWORD_FILE") !== null;
  const file = reader.file("GRADIENT_EMAIL_SMTP_PASSWORD_FILE");
  if ((username !== null) !== named) {
    reader.problems.push("GRADIENT_EMAIL_SMTP_USERNAME, GRADIENT_EMAIL_SMTP_PASSWORD_FILE: give both or none");
  }
  if (username === null || file === null) return null;
  // Editors end files with a line break, which no password has at its end.
  const password = new TextDecoder().decode(file).replace(/[\r\n]+$/, "");
  if (password === "") reader.problems.push("GRADIENT_EMAIL_SMTP_PASSWORD_FILE: the file is empty");
  return { username, password };
}
