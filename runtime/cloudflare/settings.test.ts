import { readFile } from "node:fs/promises";
import { describe, expect, test } from "vitest";
import { COMPATIBILITY_DATE, COMPATIBILITY_FLAG } from "#test/cloudflare/workerd.ts";
import type { Bindings, R2Bucket } from "./bindings.ts";
import { readSettings, SettingsError } from "./settings.ts";

const BUCKET = {} as R2Bucket;
const WHOLE: Bindings = {
  STORAGE: BUCKET,
  DATABASE: { connectionString: "postgresql://edge:secret@hyperdrive.local:5432/gradient" },
  GRADIENT_SERVE_URL: "https://gradient.example.org",
  GRADIENT_JWT_SECRET: "s".repeat(32),
};

function problemsOf(bindings: Bindings): string[] {
  try {
    readSettings(bindings);
  } catch (error) {
    if (error instanceof SettingsError) return error.message.split("\n");
    throw error;
  }
  return [];
}

describe("the settings of a Worker", () => {
  test("are whole with a bucket, a database, the servers' address and the secret of sessions", () => {
    expect(readSettings(WHOLE)).toEqual({
      databaseUrl: "postgresql://edge:secret@hyperdrive.local:5432/gradient",
      bucket: BUCKET,
      prefix: "",
      serveUrl: "https://gradient.example.org",
      jwtSecret: new TextEncoder().encode("s".repeat(32)),
      cryptSecret: null,
      logLevel: "info",
    });
  });

  test("take a connection string for want of Hyperdrive, and do without white space around secrets", () => {
    const { DATABASE: _, ...rest } = WHOLE;
    const url = "postgres://edge@db.example.org/gradient";
    const settings = readSettings({
      ...rest,
      GRADIENT_DATABASE_URL: `${url}\n`,
      GRADIENT_JWT_SECRET: ` ${"s".repeat(32)}\n`,
      GRADIENT_S3_PREFIX: "/gradient/nars",
    });
    expect([settings.databaseUrl, settings.jwtSecret.length, settings.prefix]).toEqual([url, 32, "gradient/nars/"]);
  });

  test("say all that is missing at once", () => {
    expect(problemsOf({}).map((line) => line.split(":", 1)[0])).toEqual([
      "DATABASE",
      "STORAGE",
      "GRADIENT_SERVE_URL",
      "GRADIENT_JWT_SECRET",
    ]);
  });

  test.each([
    ["GRADIENT_SERVE_URL", "https://gradient.example.org/api"],
    ["GRADIENT_SERVE_URL", "gradient.example.org"],
    ["GRADIENT_S3_PREFIX", "../nars"],
    ["GRADIENT_JWT_SECRET", "short"],
    ["GRADIENT_CRYPT_SECRET", "short"],
    ["GRADIENT_LOG_LEVEL", "loud"],
  ] as const)("refuse %s=%s by its name, without showing a secret", (name, value) => {
    const [problem, ...others] = problemsOf({ ...WHOLE, [name]: value });
    expect(others).toEqual([]);
    expect(problem).toMatch(new RegExp(`^${name}: `));
    expect(problem).not.toContain("short");
  });
});

describe("wrangler.example.toml", async () => {
  const example = await readFile(new URL("../../wrangler.example.toml", import.meta.url), "utf8");
  const source = await readFile(new URL("settings.ts", import.meta.url), "utf8");

  test("names every setting and secret, and nothing that is not read", () => {
    const variables = [...example.matchAll(/^(GRADIENT_\w+) =/gm)].map(([, name]) => name);
    const secrets = [...example.matchAll(/^# {3}(GRADIENT_\w+) {2}/gm)].map(([, name]) => name);
    const read = [...source.matchAll(/textOf\(bindings, "(GRADIENT_\w+)"\)/g)].map(([, name]) => name);
    expect(new Set([...variables, ...secrets])).toEqual(new Set(read));
  });

  test("asks for the runtime that the tests run it in", () => {
    expect(example).toContain(`\ncompatibility_date = "${COMPATIBILITY_DATE}"\n`);
    expect(example).toContain(`\ncompatibility_flags = ["${COMPATIBILITY_FLAG}"]\n`);
  });
});
