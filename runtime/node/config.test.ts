import { chmod, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { formatIpNetwork } from "#core/domain/ip-address.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { ConfigError, readConfig } from "./config.ts";

test("without any option the documented defaults hold", () => {
  const { config, warnings } = readConfig({});

  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    listen: { address: "127.0.0.1", port: 3_000 },
    basePath: resolve("data"),
    database: {
      url: null,
      scheduler: { connectionsMax: 32, connectionsMin: 2 },
      web: { connectionsMax: 16, connectionsMin: 1 },
    },
    secrets: { jwt: null, crypt: null },
    registrationEnabled: true,
    createOrganization: "everyone",
    createCache: "everyone",
    requestBytesMax: 2_097_152,
    logLevels: { default: "info", web: "info", cache: "info", proto: "info", scheduler: "info" },
    keepEvaluations: 5,
    allowLocalSources: false,
    workers: {
      discoverable: true,
      connectionsMax: 256,
      narServesMax: 8,
      narOpenTimeoutMs: 60_000,
      heartbeatTimeoutMs: 120_000,
    },
    builds: { attemptsMax: 3, retryBackoffMs: 30_000, timeoutMs: 14_400_000, maxSilentMs: 3_600_000 },
  });
  expect(config.trustedProxies.map(({ prefixLength }) => prefixLength)).toEqual([32, 128]);
  expect(config.localIps.map(formatIpNetwork)).toEqual(["10.0.0.0/8"]);
});

test("limits of builds, logs, sources and caches are read by their names", () => {
  const { config, warnings } = readConfig({
    GRADIENT_BUILD_MAX_ATTEMPTS: "7",
    GRADIENT_BUILD_RETRY_BACKOFF_SECS: "2",
    GRADIENT_BUILD_DEFAULT_TIMEOUT_SECS: "60",
    GRADIENT_BUILD_DEFAULT_MAX_SILENT_SECS: "30",
    GRADIENT_WORKER_SAMPLE_INTERVAL: "9",
    GRADIENT_LOG_CHUNK_BYTES: "8192",
    GRADIENT_MAX_SOURCE_UPLOAD_SIZE: "4096",
    GRADIENT_CREATE_CACHE: "superusers",
  });

  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    builds: { attemptsMax: 7, retryBackoffMs: 2_000, timeoutMs: 60_000, maxSilentMs: 30_000 },
    workers: { sampleIntervalMs: 9_000 },
    logChunkBytes: 8_192,
    sourceBytesMax: 4_096,
    createCache: "superusers",
  });
});

test("everything that is wrong is said at once, and no secret with it", () => {
  const problems = problemsOf({
    GRADIENT_IP: "localhost",
    GRADIENT_PORT: "70000",
    GRADIENT_SERVE_URL: "gradient.example.com",
    GRADIENT_DATABASE_URL: "mysql://root:hunter2@db/gradient",
    GRADIENT_DATABASE_MIN_CONNECTIONS: "40",
    GRADIENT_ENABLE_REGISTRATION: "maybe",
    GRADIENT_LOG_LEVEL: "loud",
    GRADIENT_TRUSTED_PROXIES: "10.0.0.0/8,10.0.0.0/40",
    GRADIENT_KEEP_EVALUATIONS: "-1",
    GRADIENT_JWT_SECRET_FILE: "/nonexistent/jwt",
  });

  expect(problems).toEqual([
    "GRADIENT_IP=localhost: must be an IP address such as 127.0.0.1 or ::1",
    "GRADIENT_PORT=70000: must be a whole number from 0 to 65535",
    "the database URL must begin with postgres:// or postgresql://",
    "GRADIENT_DATABASE_MIN_CONNECTIONS=40: must not exceed GRADIENT_DATABASE_MAX_CONNECTIONS=32",
    "GRADIENT_SERVE_URL=gradient.example.com: must be an address such as https://gradient.example.com",
    "GRADIENT_JWT_SECRET_FILE: cannot read /nonexistent/jwt: " +
      "ENOENT: no such file or directory, open '/nonexistent/jwt'",
    "GRADIENT_CRYPT_SECRET_FILE: is required with a database URL; " +
      "make one with: openssl rand -base64 48 > /path/to/crypt-secret",
    "GRADIENT_ENABLE_REGISTRATION=maybe: must be true or false",
    "GRADIENT_TRUSTED_PROXIES=10.0.0.0/40: must be a list of networks such as 10.0.0.0/8,::1/128",
    "GRADIENT_LOG_LEVEL=loud: must be one of trace, debug, info, warn, error",
    "GRADIENT_KEEP_EVALUATIONS=-1: must be a whole number from 0 to 1000000",
  ]);
  expect(problems.join()).not.toContain("hunter2");
});

test("an unknown name is warned about with the nearest one that exists", () => {
  const { warnings } = readConfig({
    GRADIENT_SERVER_URL: "x",
    GRADIENT_KEEP_EVALUATION: "x",
    GRADIENT_SOMETHING_ELSE_ENTIRELY: "x",
    GRADIENT_INVOKED_FROM: "x",
    GRADIENT_WORKER_ID: "x",
    HOME: "x",
  });

  expect(warnings).toEqual([
    "GRADIENT_KEEP_EVALUATION is not an option of this server; did you mean GRADIENT_KEEP_EVALUATIONS?",
    "GRADIENT_SERVER_URL is not an option of this server; did you mean GRADIENT_SERVE_URL?",
    "GRADIENT_SOMETHING_ELSE_ENTIRELY is not an option of this server",
  ]);
});

test("secrets and the database's URL come from files, and the file wins", async () => {
  await using folder = await withTemporaryFolder();
  const file = async (name: string, text: string) => {
    const path = join(folder.path, name);
    await writeFile(path, text);
    return path;
  };
  const { config } = readConfig({
    GRADIENT_DATABASE_URL: "postgres://elsewhere/gradient",
    GRADIENT_DATABASE_URL_FILE: await file("url", "postgresql:///gradient?host=/run/postgresql\n"),
    GRADIENT_JWT_SECRET_FILE: await file("jwt", ` ${"j".repeat(40)}\n`),
    GRADIENT_CRYPT_SECRET_FILE: await file("crypt", "c".repeat(40)),
  });

  expect(config.database.url).toBe("postgresql:///gradient?host=/run/postgresql");
  expect(new TextDecoder().decode(config.secrets.jwt ?? undefined)).toBe("j".repeat(40));
  expect(config.secrets.crypt?.length).toBe(40);
});

test("secrets that are too short stop the start and say how to make one", async () => {
  await using folder = await withTemporaryFolder();
  const jwt = join(folder.path, "jwt");
  const crypt = join(folder.path, "crypt");
  await writeFile(jwt, `${"j".repeat(31)}\n`);
  await writeFile(crypt, "c");
  await chmod(jwt, 0o600);

  const advice = "make one with: openssl rand -base64 48 >";
  expect(problemsOf({ GRADIENT_JWT_SECRET_FILE: jwt, GRADIENT_CRYPT_SECRET_FILE: crypt })).toEqual([
    `GRADIENT_JWT_SECRET_FILE: the JWT secret is shorter than 32 bytes; ${advice} ${jwt}`,
    `GRADIENT_CRYPT_SECRET_FILE: the crypt secret is shorter than 16 bytes; ${advice} ${crypt}`,
  ]);
});

test("an area's log level falls back to the general one", () => {
  const { config } = readConfig({ GRADIENT_LOG_LEVEL: "warn", GRADIENT_PROTO_LOG_LEVEL: "debug" });
  expect(config.logLevels).toEqual({ default: "warn", web: "warn", cache: "warn", proto: "debug", scheduler: "warn" });
});

test("the address that clients are told is the one the server listens on, unless it is given", () => {
  expect(readConfig({ GRADIENT_IP: "::1", GRADIENT_PORT: "81" }).config.serveUrl).toBe("http://[::1]:81");
  expect(readConfig({ GRADIENT_IP: "0.0.0.0" }).config.serveUrl).toBe("http://127.0.0.1:3000");
  expect(readConfig({ GRADIENT_SERVE_URL: "https://ci.example.org/" }).config.serveUrl).toBe("https://ci.example.org");
});

test("links for people and the cookie's TLS follow the address of the server, unless they are given", () => {
  const of = (environment: Record<string, string>) => {
    const { frontendUrl, secureCookie } = readConfig(environment).config;
    return [frontendUrl, secureCookie];
  };
  expect(of({})).toEqual(["http://127.0.0.1:3000", false]);
  const serveUrl = { GRADIENT_SERVE_URL: "https://ci.example.org" };
  expect(of(serveUrl)).toEqual(["https://ci.example.org", true]);
  const given = { GRADIENT_FRONTEND_URL: "https://ui.example.org/", GRADIENT_USE_TLS: "false" };
  expect(of({ ...serveUrl, ...given })).toEqual(["https://ui.example.org", false]);
  expect(of({ GRADIENT_USE_TLS: "true" })).toEqual(["http://127.0.0.1:3000", true]);
  expect(problemsOf({ GRADIENT_FRONTEND_URL: "ui.example.org" })).toHaveLength(1);
});

test("mail is configured by names that the server knows", () => {
  const { config, warnings } = readConfig({
    GRADIENT_EMAIL_ENABLED: "true",
    GRADIENT_EMAIL_REQUIRE_VERIFICATION: "true",
    GRADIENT_EMAIL_SMTP_HOST: "smtp.example.com",
    GRADIENT_EMAIL_SMTP_PORT: "465",
    GRADIENT_EMAIL_FROM_ADDRESS: "gradient@example.com",
    GRADIENT_EMAIL_FROM_NAME: "CI",
    GRADIENT_EMAIL_ENABLE_TLS: "true",
  });
  expect(warnings).toEqual([]);
  expect(config.mail).toMatchObject({ tls: "implicit", from: { name: "CI" }, verificationRequired: true });
});

test("the machine itself is reached only where it is listed, private networks unless they are closed", () => {
  expect(readConfig({}).config).toMatchObject({
    outbound: { allowed: [], privateAllowed: true },
    upstreamQueriesMax: 32,
  });
  const { config } = readConfig({
    GRADIENT_OUTBOUND_ALLOW: "127.0.0.1, ::1/128",
    GRADIENT_OUTBOUND_PRIVATE: "false",
    GRADIENT_UPSTREAM_QUERY_CONCURRENCY: "8",
  });
  expect(config.outbound.allowed.map(formatIpNetwork)).toEqual(["127.0.0.1/32", "::1/128"]);
  expect([config.outbound.privateAllowed, config.upstreamQueriesMax]).toEqual([false, 8]);
  expect(problemsOf({ GRADIENT_OUTBOUND_ALLOW: "localhost" })).toHaveLength(1);
});

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

test("what an evaluation may take is an option each", () => {
  const limits = { timeoutMs: 3_600_000, attributesMax: 100_000, derivationsMax: 1_000_000, messagesMax: 1_000 };
  expect(readConfig({}).config.evaluations).toEqual(limits);
  const environment = {
    GRADIENT_EVALUATION_TIMEOUT_SECS: "5",
    GRADIENT_EVALUATION_MAX_ATTRIBUTES: "6",
    GRADIENT_EVALUATION_MAX_DERIVATIONS: "7",
    GRADIENT_EVALUATION_MAX_MESSAGES: "8",
  };
  const { config, warnings } = readConfig(environment);
  expect(config.evaluations).toEqual({ timeoutMs: 5_000, attributesMax: 6, derivationsMax: 7, messagesMax: 8 });
  expect(warnings).toEqual([]);
  expect(() => readConfig({ GRADIENT_EVALUATION_TIMEOUT_SECS: "0" })).toThrow("GRADIENT_EVALUATION_TIMEOUT_SECS");
});
