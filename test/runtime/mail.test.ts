import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { expect, test } from "vitest";
import { withDatabase } from "#test/support/database.ts";
import { withSmtpServer } from "#test/support/smtp-server.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { withServerProcess } from "./server-process.ts";

const ACCOUNT = { username: "ada", name: "Ada", email: "ada@example.com", password: "Correct-Horse-9-Battery" };
const WAIT = { timeout: 30_000 };

test("a mail outlives a mail server that is away and a kill -9, and its link lets the user in", {
  timeout: 90_000,
}, async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const secret = join(folder.path, "secret");
  await writeFile(secret, "0123456789abcdef0123456789abcdef0123456789abcdef");
  const { port } = await closedSmtpServer();
  const environment = {
    GRADIENT_DATABASE_URL: database.url,
    GRADIENT_JWT_SECRET_FILE: secret,
    GRADIENT_CRYPT_SECRET_FILE: secret,
    GRADIENT_EMAIL_ENABLED: "true",
    GRADIENT_EMAIL_REQUIRE_VERIFICATION: "true",
    GRADIENT_EMAIL_SMTP_HOST: "127.0.0.1",
    GRADIENT_EMAIL_SMTP_PORT: String(port),
    GRADIENT_EMAIL_ENABLE_TLS: "false",
    GRADIENT_EMAIL_FROM_ADDRESS: "ci@example.org",
    GRADIENT_EMAIL_FROM_NAME: "Example CI",
  };
  const first = await withServerProcess(join(folder.path, "base"), environment);
  expect((await post(`${first.url}/api/v1/auth/basic/register`, ACCOUNT)).status).toBe(200);
  await expect.poll(() => first.lines.join("\n"), WAIT).toContain("a mail could not be sent; it is tried again");
  await first[Symbol.asyncDispose]();

  await database.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();
  await using mails = await withSmtpServer({ port });
  await using second = await withServerProcess(join(folder.path, "base"), environment);
  await expect.poll(() => mails.received.length, WAIT).toBe(1);

  const text = mails.received[0]?.text ?? "";
  expect(text).toContain("From: Example CI <ci@example.org>");
  expect(mails.received[0]?.to).toEqual([ACCOUNT.email]);
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
