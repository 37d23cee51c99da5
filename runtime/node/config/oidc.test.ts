import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { unknownNameWarnings } from "./names.ts";
import { readOidcConfig } from "./oidc.ts";
import { EnvironmentReader } from "./reader.ts";

function read(options: Record<string, string>) {
  const names = Object.entries(options).map(([name, value]): [string, string] => [`GRADIENT_OIDC_${name}`, value]);
  const environment = Object.fromEntries(names);
  const reader = new EnvironmentReader(environment);
  return { oidc: readOidcConfig(reader), problems: reader.problems, warnings: unknownNameWarnings(environment) };
}

test("a provider is off unless it is turned on, and then needs an address, a client and its secret", () => {
  expect(read({ CLIENT_ID: "gradient" })).toEqual({ oidc: null, problems: [], warnings: [] });
  expect(read({ ENABLED: "true" }).problems).toEqual([
    "GRADIENT_OIDC_DISCOVERY_URL: is required with GRADIENT_OIDC_ENABLED=true",
    "GRADIENT_OIDC_CLIENT_ID: is required with GRADIENT_OIDC_ENABLED=true",
    "GRADIENT_OIDC_CLIENT_SECRET_FILE: is required with GRADIENT_OIDC_ENABLED=true",
  ]);
  expect(read({ REQUIRED: "true" }).problems).toEqual([
    "GRADIENT_OIDC_REQUIRED=true: needs GRADIENT_OIDC_ENABLED=true",
  ]);
});

test("every option of a provider is read, with the documented defaults", async () => {
  await using folder = await withTemporaryFolder();
  const file = join(folder.path, "secret");
  await writeFile(file, " s3cret with a space\n");
  const needed = {
    ENABLED: "true",
    DISCOVERY_URL: "https://auth.example.com",
    CLIENT_ID: "gradient",
    CLIENT_SECRET_FILE: file,
  };
  const defaults = {
    required: false,
    discoveryUrl: "https://auth.example.com",
    clientId: "gradient",
    clientSecret: "s3cret with a space",
    scopes: "openid email profile",
    iconUrl: null,
  };
  expect(read(needed)).toEqual({ oidc: defaults, problems: [], warnings: [] });
  const more = { REQUIRED: "true", SCOPES: "openid  groups openid", ICON_URL: "https://auth.example.com/logo.svg" };
  expect(read({ ...needed, ...more })).toEqual({
    oidc: { ...defaults, required: true, scopes: "openid groups", iconUrl: "https://auth.example.com/logo.svg" },
    problems: [],
    warnings: [],
  });
  await writeFile(file, "\n");
  expect(read(needed).problems).toEqual([
    "GRADIENT_OIDC_CLIENT_SECRET_FILE: the file is empty: put the client's secret into it",
  ]);
});

test.each([
  ["DISCOVERY_URL", "auth.example.com", /must be an address such as/],
  ["DISCOVERY_URL", "ftp://auth.example.com", /must be an address such as/],
  ["DISCOVERY_URL", "https://user:password@auth.example.com", /must be an address such as/],
  ["DISCOVERY_URL", "http://auth.example.com", /must begin with https:\/\/, or lead to this machine itself/],
  ["DISCOVERY_URL", "http://10.0.0.1", /must begin with https:/],
  ["SCOPES", "email profile", /openid must be among them/],
  ["SCOPES", 'openid "quoted"', /must be names with spaces between them/],
  ["ICON_URL", "javascript:alert(1)", /must be like https:/],
  ["ICON_URL", "//evil.example.com/logo.svg", /must be like https:/],
  ["ICON_URL", `/${"x".repeat(3_000)}`, /must be like https:/],
])("GRADIENT_OIDC_%s=%s is refused at the start, without the value of a password", (name, value, problem) => {
  const { problems } = read({ ENABLED: "true", CLIENT_ID: "gradient", [name]: value });
  const found = problems.filter(
    (text) => text.startsWith(`GRADIENT_OIDC_${name}: must`) || text.includes("openid must"),
  );
  expect(found).toEqual([expect.stringMatching(problem)]);
  expect(problems.join()).not.toContain("password");
});

test.each(["http://localhost:9000", "http://127.0.0.1:9000/realm", "http://[::1]:9000", "https://10.0.0.1"])(
  "a provider at %s may be used",
  (url) => {
    const { problems } = read({ ENABLED: "true", DISCOVERY_URL: url, CLIENT_ID: "gradient" });
    expect(problems).toEqual(["GRADIENT_OIDC_CLIENT_SECRET_FILE: is required with GRADIENT_OIDC_ENABLED=true"]);
  },
);
