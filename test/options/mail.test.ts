import { expect, test } from "vitest";
import type { Mail } from "#core/ports/mailer.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createMailer } from "#runtime/node/mailer.ts";
import { makeCertificate } from "#test/support/certificate.ts";
import { type TestSmtpOptions, withSmtpServer } from "#test/support/smtp-server.ts";

const { key, certificate } = makeCertificate("127.0.0.1");
const MAIL: Mail = { id: "1", to: "ada@example.com", subject: "Hello", text: "Hello Ada", html: "<p>Hello Ada</p>" };

/**
 * What a server whose mail goes to this port sends to a mail server. Such ports are for root to listen on: it listens
 * on another one, and everything else is what the options make of the port.
 */
async function send(smtpPort: string, offered: TestSmtpOptions, options: Record<string, string> = {}) {
  const { config } = readConfig({
    GRADIENT_EMAIL_ENABLED: "true",
    GRADIENT_EMAIL_SMTP_HOST: "127.0.0.1",
    GRADIENT_EMAIL_SMTP_PORT: smtpPort,
    GRADIENT_EMAIL_FROM_ADDRESS: "ci@example.org",
    ...options,
  });
  if (!config.mail) throw new Error("mail is off");
  await using server = await withSmtpServer({ key, cert: certificate, ...offered });
  const mailer = createMailer({ ...config.mail, port: server.port, certificates: [certificate] });
  const failure = await mailer.send(MAIL).then(
    () => null,
    (error: Error) => error.message,
  );
  return { failure, received: server.received };
}

test("email.smtpPort (GRADIENT_EMAIL_SMTP_PORT) 587: STARTTLS, or no mail is sent", async () => {
  expect(await send("587", {})).toMatchObject({ failure: null, received: [{ secure: true }] });
  expect(await send("587", { withoutStartTls: true })).toMatchObject({
    failure: expect.stringContaining("STARTTLS"),
    received: [],
  });
});

test("email.smtpPort (GRADIENT_EMAIL_SMTP_PORT) 465: TLS from the first byte, or no mail is sent", async () => {
  expect(await send("465", { secure: true })).toMatchObject({ failure: null, received: [{ secure: true }] });
  const { failure, received } = await send("465", {});
  expect(failure).not.toBeNull();
  expect(received).toEqual([]);
});

test("email.enableTls (GRADIENT_EMAIL_ENABLE_TLS=false): mails go to a server that knows no TLS", async () => {
  const without = { GRADIENT_EMAIL_ENABLE_TLS: "false" };
  const sent = await send("587", { withoutStartTls: true }, without);
  expect(sent).toMatchObject({ failure: null, received: [{ secure: false, from: "ci@example.org" }] });
});
