import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { OPTION_NAMES } from "#runtime/node/config/names.ts";
import { type Config, readConfig } from "#runtime/node/config.ts";
import { type TemporaryFolder, withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readWorkerConfig } from "#worker/config.ts";
import { OPTION_NAMES as OPTION_NAMES_OF_WORKER } from "#worker/config-names.ts";
import { A_FILE, type OptionRow, SERVER_ROWS, WORKER_ROWS } from "./rows.ts";

const ROOT = join(import.meta.dirname, "../..");
/** A database's URL, a secret that is long enough, and one word: good for every file that an option may name. */
const CONTENT = "postgresql://localhost/gradient-with-a-name-of-some-length";

/** What has to be set so that the options whose names begin so, or are these, have an effect. */
const BESIDE: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  SENTRY_DSN: { REPORT_ERRORS: "true", SENTRY_DSN: "https://0123@sentry.example.org/1" },
  REPORT_ERRORS: { SENTRY_DSN: "https://0123@sentry.example.org/1" },
  DATABASE_URL: { JWT_SECRET_FILE: A_FILE, CRYPT_SECRET_FILE: A_FILE },
  SHARED_STORAGE_PATH: { DATABASE_URL_FILE: A_FILE, JWT_SECRET_FILE: A_FILE, CRYPT_SECRET_FILE: A_FILE },
  STORAGE_MOVING_TO: { S3_BUCKET: "gradient" },
  NGINX_LOG_PATH: { NGINX_STORAGE_LOCATION: "/internal-storage/" },
  S3_BUCKET: {},
  S3_: { S3_BUCKET: "gradient" },
  S3_ACCESS_KEY_ID: { S3_BUCKET: "gradient", S3_ACCESS_KEY_ID: "key", S3_SECRET_ACCESS_KEY_FILE: A_FILE },
  S3_SECRET_ACCESS_KEY_FILE: { S3_BUCKET: "gradient", S3_ACCESS_KEY_ID: "key", S3_SECRET_ACCESS_KEY_FILE: "<another>" },
  OIDC_ENABLED: { OIDC_CLIENT_ID: "gradient", OIDC_CLIENT_SECRET_FILE: A_FILE, OIDC_DISCOVERY_URL: "https://a.b" },
  EMAIL_ENABLED: { EMAIL_SMTP_HOST: "mail.example.org", EMAIL_FROM_ADDRESS: "ci@example.org" },
};
const OIDC = { ...BESIDE.OIDC_ENABLED, OIDC_ENABLED: "true" };
const EMAIL = { ...BESIDE.EMAIL_ENABLED, EMAIL_ENABLED: "true" };
const ACCOUNT = { EMAIL_SMTP_USERNAME: "ci", EMAIL_SMTP_PASSWORD_FILE: "<another>" };

function beside(variable: string): Readonly<Record<string, string>> {
  const given = BESIDE[variable];
  if (given) return given;
  if (variable.startsWith("EMAIL_SMTP_USER") || variable.startsWith("EMAIL_SMTP_PASS")) return { ...EMAIL, ...ACCOUNT };
  if (variable.startsWith("EMAIL_")) return EMAIL;
  if (variable === "OIDC_CLIENT_SECRET_FILE") return { ...OIDC, OIDC_CLIENT_SECRET_FILE: "<another>" };
  if (variable.startsWith("OIDC_")) return OIDC;
  if (variable.startsWith("DATABASE_URL")) return BESIDE.DATABASE_URL ?? {};
  return variable.startsWith("S3_") ? (BESIDE.S3_ ?? {}) : {};
}

let folder: TemporaryFolder;
beforeAll(async () => {
  folder = await withTemporaryFolder();
  await writeFile(join(folder.path, A_FILE), CONTENT);
  await writeFile(join(folder.path, "<another>"), `${CONTENT}-and-more`);
});
afterAll(() => folder[Symbol.asyncDispose]());

/** What the server decides; names without `GRADIENT_`. */
function decided(options: Readonly<Record<string, string>>): Config {
  const entries = Object.entries(options).map(([name, value]) => [
    `GRADIENT_${name}`,
    value.startsWith("<") ? join(folder.path, value) : value,
  ]);
  const { config, warnings } = readConfig(Object.fromEntries(entries));
  expect(warnings).toEqual([]);
  return config;
}

test("every option that the server reads has one row, and every row is of such an option", () => {
  const named = SERVER_ROWS.map(({ variable }) => `GRADIENT_${variable}`);

  expect(named.toSorted()).toEqual(OPTION_NAMES.toSorted());
  const options = SERVER_ROWS.flatMap(({ option }) => option ?? []);
  expect(new Set(options).size).toBe(options.length);
});

async function expectShown(name: string, { shown }: OptionRow): Promise<void> {
  // Those of the configuration show what is read, and not what comes of it.
  expect(shown).not.toContain("config");
  const text = await readFile(join(ROOT, shown), "utf8");
  expect(text).toMatch(new RegExp(`\\b${name}\\b`));
}

describe.each(SERVER_ROWS.map((row) => [`GRADIENT_${row.variable}`, row] as const))("%s", (name, row) => {
  test("a test that names it shows what it does", async () => await expectShown(name, row));

  test(`it is ${row.default ?? "not set"} where nobody sets it, and may be ${row.other}`, () => {
    const given = beside(row.variable);
    expect(decided({ ...given, [row.variable]: row.other })).not.toEqual(decided(given));
    expect(decided({ ...given, [row.variable]: valueWithout(row, given) })).toEqual(decided(given));
  });
});

describe.each(WORKER_ROWS.map((row) => [`GRADIENT_${row.variable}`, row] as const))("%s of a worker", (name, row) => {
  test("a test that names it shows what it does", async () => await expectShown(name, row));

  test(`it is ${row.default ?? "not set"} where nobody sets it, and may be ${row.other}`, () => {
    const given = besideOfWorker(name);
    const decidedBy = (value: string | null) =>
      readWorkerConfig({ ...given, ...(value !== null && { [name]: value }) }).config;
    expect(OPTION_NAMES_OF_WORKER).toContain(name);
    expect(decidedBy(row.other)).not.toEqual(decidedBy(null));
    expect(decidedBy(row.default)).toEqual(decidedBy(null));
  });
});

/** What has to be set so that the worker's option has an effect. */
function besideOfWorker(name: string): Readonly<Record<string, string>> {
  const server = { GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:3000/proto" };
  const isListening = /_(?:LISTEN_ADDR|WORKER_PORT|MAX_PROTO_CONNECTIONS|FEDERATE)$/.test(name);
  if (!isListening) return server;
  return { ...server, GRADIENT_WORKER_DISCOVERABLE: "true", GRADIENT_WORKER_DOWNSTREAMS_FILE: "/run/downstreams" };
}

function valueWithout({ variable, default: standard }: OptionRow, given: Readonly<Record<string, string>>): string {
  // An empty value counts as not set.
  return standard ?? given[variable] ?? "";
}
