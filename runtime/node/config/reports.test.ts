import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { EnvironmentReader } from "./reader.ts";
import { readReportSettings } from "./reports.ts";

const DSN = "https://0123456789abcdef@sentry.example.com/42";

function read(environment: Record<string, string>) {
  const reader = new EnvironmentReader(environment);
  return { ...readReportSettings(reader), problems: reader.problems };
}

test("without any of the options there are neither metrics nor reports", () => {
  expect(read({})).toEqual({ metricsToken: null, sentryDsn: null, problems: [] });
});

test("GRADIENT_METRICS_TOKEN_FILE names a file with one word, whose line end does not count", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "metrics");
  const readFile = (contents: string) => {
    writeFileSync(file, contents);
    return read({ GRADIENT_METRICS_TOKEN_FILE: file });
  };

  expect(new TextDecoder().decode(readFile("c2VjcmV0+/=\n").metricsToken ?? undefined)).toBe("c2VjcmV0+/=");
  expect(readFile("\n").problems).toEqual([
    `GRADIENT_METRICS_TOKEN_FILE: the file is empty; make a token with: openssl rand -base64 32 > ${file}`,
  ]);
  expect(readFile("two words").problems[0]).toContain("holds more than one word");
  expect(read({ GRADIENT_METRICS_TOKEN_FILE: join(folder.path, "none") }).problems[0]).toContain("cannot read");
});

test("GRADIENT_REPORT_ERRORS needs GRADIENT_SENTRY_DSN, and says so", () => {
  expect(read({ GRADIENT_REPORT_ERRORS: "true" }).problems).toEqual([
    "GRADIENT_REPORT_ERRORS=true: set GRADIENT_SENTRY_DSN to where reports go; there is no other place for them",
  ]);
  expect(read({ GRADIENT_REPORT_ERRORS: "true", GRADIENT_SENTRY_DSN: DSN })).toMatchObject({ sentryDsn: DSN });
});

test("GRADIENT_SENTRY_DSN alone reports nothing, and is checked all the same, without being shown", () => {
  expect(read({ GRADIENT_SENTRY_DSN: DSN })).toMatchObject({ sentryDsn: null, problems: [] });
  for (const wrong of ["x", "https://sentry.example.com/42", "ftp://k@h/1", "https://k@h/", "https://k:s@h/1"]) {
    expect(read({ GRADIENT_REPORT_ERRORS: "true", GRADIENT_SENTRY_DSN: wrong }).problems).toEqual([
      "GRADIENT_SENTRY_DSN: must look like https://0123456789abcdef@sentry.example.com/42",
    ]);
  }
});
