import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readMailConfig } from "./mail.ts";
import { EnvironmentReader } from "./reader.ts";

const BASE = {
  GRADIENT_EMAIL_ENABLED: "true",
  GRADIENT_EMAIL_SMTP_HOST: "smtp.example.com",
  GRADIENT_EMAIL_FROM_ADDRESS: "gradient@example.com",
};

function read(environment: Record<string, string>) {
  const reader = new EnvironmentReader(environment);
  return { mail: readMailConfig(reader), problems: reader.problems };
}

test("mail is off unless it is turned on, and then needs a server and a sender", () => {
  expect(read({ GRADIENT_EMAIL_SMTP_HOST: "smtp.example.com" })).toEqual({ mail: null, problems: [] });
  expect(read({ GRADIENT_EMAIL_ENABLED: "true" }).problems).toEqual([
    "GRADIENT_EMAIL_SMTP_HOST: is required with GRADIENT_EMAIL_ENABLED=true: the mail server's name",
    "GRADIENT_EMAIL_FROM_ADDRESS: is required with GRADIENT_EMAIL_ENABLED=true: who mails come from",
  ]);
  expect(read({ GRADIENT_EMAIL_REQUIRE_VERIFICATION: "true" }).problems).toEqual([
    "GRADIENT_EMAIL_REQUIRE_VERIFICATION=true: needs GRADIENT_EMAIL_ENABLED=true",
  ]);
  expect(read(BASE)).toEqual({
    mail: {
      host: "smtp.example.com",
      port: 587,
      tls: "starttls",
      credentials: null,
      from: { name: "Gradient", address: "gradient@example.com" },
      verificationRequired: false,
    },
    problems: [],
  });
});

test("port 587 is STARTTLS, 465 implicit TLS, and only GRADIENT_EMAIL_ENABLE_TLS=false is neither", () => {
  const tls = (more: Record<string, string>) => read({ ...BASE, ...more }).mail?.tls;
  expect(tls({ GRADIENT_EMAIL_SMTP_PORT: "587", GRADIENT_EMAIL_ENABLE_TLS: "true" })).toBe("starttls");
  expect(tls({ GRADIENT_EMAIL_SMTP_PORT: "465" })).toBe("implicit");
  expect(tls({ GRADIENT_EMAIL_SMTP_PORT: "25" })).toBe("starttls");
  expect(tls({ GRADIENT_EMAIL_SMTP_PORT: "465", GRADIENT_EMAIL_ENABLE_TLS: "false" })).toBe("none");
});

test("the password comes from its file, goes with a user name, and not over an open line", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "password");
  await writeFile(file, " with space \n");
  const named = { ...BASE, GRADIENT_EMAIL_SMTP_USERNAME: "me", GRADIENT_EMAIL_SMTP_PASSWORD_FILE: file };
  expect(read(named).mail?.credentials).toEqual({ username: "me", password: " with space " });

  const half = ["GRADIENT_EMAIL_SMTP_USERNAME, GRADIENT_EMAIL_SMTP_PASSWORD_FILE: give both or none"];
  expect(read({ ...BASE, GRADIENT_EMAIL_SMTP_USERNAME: "me" }).problems).toEqual(half);
  expect(read({ ...BASE, GRADIENT_EMAIL_SMTP_PASSWORD_FILE: file }).problems).toEqual(half);
  const open = read({ ...named, GRADIENT_EMAIL_ENABLE_TLS: "false" }).problems;
  expect(open).toEqual([expect.stringMatching(/^GRADIENT_EMAIL_ENABLE_TLS=false: the password would be readable/)]);
  const local = { ...named, GRADIENT_EMAIL_ENABLE_TLS: "false", GRADIENT_EMAIL_SMTP_HOST: "localhost" };
  expect(read(local).problems).toEqual([]);
});

test("a sender that is no address is a problem", () => {
  const problems = read({ ...BASE, GRADIENT_EMAIL_FROM_ADDRESS: "Gradient <ci@example.com>" }).problems;
  expect(problems).toEqual([
    "GRADIENT_EMAIL_FROM_ADDRESS=Gradient <ci@example.com>: must be an address such as ci@example.org",
  ]);
});
