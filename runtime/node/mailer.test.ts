import { expect, test, vi } from "vitest";
import { type Mail, MailRefusedError } from "#core/ports/mailer.ts";
import { makeCertificate } from "#test/support/certificate.ts";
import { type TestSmtpOptions, type TestSmtpServer, withSmtpServer } from "#test/support/smtp-server.ts";
import { createMailer, type MailerOptions } from "./mailer.ts";

const { key, certificate } = makeCertificate("127.0.0.1", "localhost");
const credentials = { username: "ci@example.org", password: "s3cret" };
const mail: Mail = {
  id: "0190-0001",
  to: "ada@example.com",
  subject: "Grüße an Ada",
  text: "Hello Ada,\n\nhttps://ci.example.com/x?token=abc\n",
  html: "<p>Hello Ada,</p>",
};

async function served(options: TestSmtpOptions = {}): Promise<TestSmtpServer> {
  return await withSmtpServer({ key, cert: certificate, credentials, ...options });
}

function mailer({ port }: TestSmtpServer, options: Partial<MailerOptions> = {}) {
  const from = { name: "Gradient", address: "ci@example.org" };
  const trusted = { certificates: [certificate] };
  return createMailer({ host: "127.0.0.1", port, tls: "starttls", credentials, from, ...trusted, ...options });
}

test("with STARTTLS, password and mail go over TLS, with who it is from and an id that stays the same", async () => {
  await using server = await served();

  await mailer(server).send(mail);

  expect(server.received).toMatchObject([
    { from: "ci@example.org", to: ["ada@example.com"], secure: true, username: "ci@example.org" },
  ]);
  const text = server.received[0]?.text ?? "";
  expect(text).toContain("From: Gradient <ci@example.org>\r\n");
  expect(text).toContain("To: ada@example.com\r\n");
  expect(text).toContain("Message-ID: <0190-0001@example.org>\r\n");
  expect(text).toContain("Auto-Submitted: auto-generated\r\n");
  expect(text).toMatch(/Subject: =\?UTF-8\?/);
  expect(text).toMatch(/multipart\/alternative/);
});

test("a server that offers no STARTTLS gets neither the password nor the mail", async () => {
  await using server = await served({ withoutStartTls: true });

  await expect(mailer(server).send(mail)).rejects.toThrow(/STARTTLS/);

  expect(server.attempts).toEqual([]);
  expect(server.received).toEqual([]);
});

test("with implicit TLS the first byte is encrypted, and a server without TLS is not spoken to", async () => {
  await using server = await served({ secure: true });
  await mailer(server, { tls: "implicit" }).send(mail);
  expect(server.received).toMatchObject([{ secure: true, username: "ci@example.org" }]);

  await using plain = await served();
  await expect(mailer(plain, { tls: "implicit" }).send(mail)).rejects.toThrow();
  expect(plain.received).toEqual([]);
});

test("a certificate that nobody vouches for, or of another name, is refused before the password is sent", async () => {
  await using server = await served();
  await expect(mailer(server, { certificates: [] }).send(mail)).rejects.toThrow(/self-signed/);
  const other = makeCertificate("mail.example.net");
  await using elsewhere = await served({ key: other.key, cert: other.certificate });
  const options = { certificates: [other.certificate] };
  await expect(mailer(elsewhere, options).send(mail)).rejects.toThrow(/does not match/);

  expect([server.attempts, elsewhere.attempts]).toEqual([[], []]);
});

test("without TLS and without a password a mail goes as it is, also where STARTTLS is offered", async () => {
  await using server = await withSmtpServer({ key, cert: certificate });
  await mailer(server, { tls: "none", credentials: null }).send(mail);
  expect(server.received).toMatchObject([{ secure: false, to: ["ada@example.com"] }]);
});

test("what a server says about the mail is final, what it says about us or for now is not", async () => {
  const cases = [
    { stage: "recipient", code: 550, final: true },
    { stage: "data", code: 554, final: true },
    { stage: "recipient", code: 450, final: false },
    { stage: "data", code: 452, final: false },
  ] as const;
  for (const { stage, code, final } of cases) {
    await using server = await served({ refuse: (_, at) => (at === stage ? { code, words: "no" } : null) });
    const error: unknown = await mailer(server)
      .send(mail)
      .catch((reason: unknown) => reason);
    expect([stage, code, error instanceof MailRefusedError]).toEqual([stage, code, final]);
    expect(error).toBeInstanceOf(Error);
  }
  await using server = await served();
  const wrong = { credentials: { ...credentials, password: "wrong" } };
  const error: unknown = await mailer(server, wrong)
    .send(mail)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(Error);
  expect(error).not.toBeInstanceOf(MailRefusedError);
  expect(String(error)).not.toContain("wrong");
});

test("an address is one recipient, whatever is in it", async () => {
  await using server = await served();
  await mailer(server)
    .send({ ...mail, to: "a@example.com, b@example.com" })
    .catch(() => {});
  await mailer(server)
    .send({ ...mail, to: "a@example.com\r\nBcc: b@example.com" })
    .catch(() => {});
  for (const { to } of server.received) expect(to).toHaveLength(1);
  expect(server.received.flatMap(({ to }) => to)).not.toContain("b@example.com");
});

test("what sends mails and could not be loaded once is loaded with the next mail", async () => {
  await using server = await served();
  const sender = mailer(server);
  vi.doMock("nodemailer", () => {
    throw new Error("too many open files");
  });
  await expect(sender.send(mail)).rejects.toThrow();
  vi.doUnmock("nodemailer");

  await sender.send(mail);

  expect(server.received).toHaveLength(1);
});
