import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { makeCertificate } from "#test/support/certificate.ts";
import { withDatabase } from "#test/support/database.ts";
import { withSmtpServer } from "#test/support/smtp-server.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { withServerProcess } from "./server-process.ts";

const ACCOUNT = { username: "ada", name: "Ada", email: "ada@example.com", password: "Correct-Horse-9-Battery" };
const WAIT = { timeout: 30_000 };

test("a mail outlives an absent mail server and a kill -9, goes over STARTTLS, and its link lets the user in", {
  timeout: 90_000,
}, async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const secret = join(folder.path, "secret");
  await writeFile(secret, "0123456789abcdef0123456789abcdef0123456789abcdef");
  const { key, certificate } = makeCertificate("127.0.0.1");
  await writeFile(join(folder.path, "certificate"), certificate);
  await writeFile(join(folder.path, "password"), "s3cret\n");
  const { port } = await closedSmtpServer();
  const environment = {
    GRADIENT_DATABASE_URL: database.url,
    GRADIENT_JWT_SECRET_FILE: secret,
    GRADIENT_CRYPT_SECRET_FILE: secret,
    GRADIENT_EMAIL_ENABLED: "true",
    GRADIENT_EMAIL_REQUIRE_VERIFICATION: "true",
    GRADIENT_EMAIL_SMTP_HOST: "127.0.0.1",
    GRADIENT_EMAIL_SMTP_PORT: String(port),
    GRADIENT_EMAIL_SMTP_USERNAME: "ci@example.org",
    GRADIENT_EMAIL_SMTP_PASSWORD_FILE: join(folder.path, "password"),
    GRADIENT_EMAIL_FROM_ADDRESS: "ci@example.org",
    GRADIENT_EMAIL_FROM_NAME: "Example CI",
    NODE_EXTRA_CA_CERTS: join(folder.path, "certificate"),
  };
  const first = await withServerProcess(join(folder.path, "base"), environment);
  expect((await post(`${first.url}/api/v1/auth/basic/register`, ACCOUNT)).status).toBe(200);
  await expect.poll(() => first.lines.join("\n"), WAIT).toContain("a mail could not be sent; it is tried again");
  await first[Symbol.asyncDispose]();

  await database.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();
  const credentials = { username: "ci@example.org", password: "s3cret" };
  await using mails = await withSmtpServer({ port, key, cert: certificate, credentials });
  await using second = await withServerProcess(join(folder.path, "base"), environment);
  await expect.poll(() => mails.received.length, WAIT).toBe(1);

  const text = mails.received[0]?.text ?? "";
  expect(text).toContain("From: Example CI <ci@example.org>");
  expect(mails.received).toMatchObject([{ to: [ACCOUNT.email], secure: true, username: "ci@example.org" }]);
  const token = /token=3D([0-9a-f=\r\n]{64,80}?)\r\n\r\n/.exec(text)?.[1]?.replace(/[^0-9a-f]/g, "");
  const login = { loginname: "ada", password: ACCOUNT.password };
  expect((await post(`${second.url}/api/v1/auth/basic/login`, login)).status).toBe(400);
  expect((await fetch(`${second.url}/api/v1/auth/verify-email?token=${token}`)).status).toBe(200);
  expect((await post(`${second.url}/api/v1/auth/basic/login`, login)).status).toBe(200);
  await expect.poll(async () => (await database.db.selectFrom("mail").select("id").execute()).length, WAIT).toBe(0);
});

/** A port that nobody listens on for the moment. */
async function closedSmtpServer(): Promise<{ readonly port: number }> {
  await using server = await withSmtpServer();
  return { port: server.port };
}

function post(url: string, body: object): Promise<Response> {
  return fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}
