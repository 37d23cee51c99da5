import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { readState, type StateDocument } from "#core/api/state.ts";
import { checkState } from "#core/services/state-check.ts";
import { secretsOf } from "#core/services/state-secrets.ts";
import { unknownNameWarnings } from "#runtime/node/config/names.ts";
import { type Config, readConfig } from "#runtime/node/config.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { credentialsOf, MINIMAL, snippet, sound, startedEnvironment, unitOf, withServer } from "./support/systems.ts";

const ROOT = join(import.meta.dirname, "../..");
const EVERYTHING = join(ROOT, "test/state/everything.json");
const PROJECT = `services.gradient.state.projects.my-project = {
  organization = "acme";
  repository = "https://forge.example.com/acme/app.git";
  created_by = null;
};
services.gradient.state.organizations.acme.created_by = null;
services.gradient.validateState = false;`;

/** Every row of the documentation's table that reaches the server: what is set, and what comes of it in the server. */
const OPTIONS: readonly (readonly [string, (config: Config) => unknown, unknown])[] = [
  [`domain = lib.mkForce "ci.example.org";`, (c) => c.serveUrl, "https://ci.example.org"],
  [`baseDir = "/srv/gradient";`, (c) => c.basePath, "/srv/gradient"],
  [`listenAddr = "::1";`, (c) => c.listen.address, "::1"],
  [`port = 3210;`, (c) => c.listen.port, 3210],
  [`useTls = false;`, (c) => [c.secureCookie, c.serveUrl.slice(0, 5)], [false, "http:"]],
  [`frontend.url = "https://ui.example.org";`, (c) => c.frontendUrl, "https://ui.example.org"],
  [`databaseMaxConnections = 40;`, (c) => c.database.scheduler.connectionsMax, 40],
  [`databaseMinConnections = 3;`, (c) => c.database.scheduler.connectionsMin, 3],
  [`databaseWebMaxConnections = 20;`, (c) => c.database.web.connectionsMax, 20],
  [`databaseWebMinConnections = 4;`, (c) => c.database.web.connectionsMin, 4],
  [
    `reportErrors = true; settings.sentryDsn = "https://0123@sentry.example.com/42";`,
    (c) => c.reports.sentryDsn,
    "https://0123@sentry.example.com/42",
  ],
  [`discoverable = false;`, (c) => c.workers.discoverable, false],
  [`settings.maxProtoConnections = 7;`, (c) => c.workers.connectionsMax, 7],
  [`settings.keepEvaluations = 9;`, (c) => c.keepEvaluations, 9],
  [`settings.maxRequestSize = 4096;`, (c) => c.requestBytesMax, 4096],
  [`settings.logLevel.default = "warn";`, (c) => [c.logLevels.default, c.logLevels.web], ["warn", "warn"]],
  [`settings.logLevel.cache = "debug";`, (c) => [c.logLevels.default, c.logLevels.cache], ["info", "debug"]],
  [`settings.logLevel.web = "trace";`, (c) => c.logLevels.web, "trace"],
  [`settings.logLevel.proto = "error";`, (c) => c.logLevels.proto, "error"],
  [`settings.logLevel.scheduler = "error";`, (c) => c.logLevels.scheduler, "error"],
  [`settings.enableRegistration = false;`, (c) => c.registrationEnabled, false],
  [`settings.deleteState = false;`, (c) => c.state.deleteUnlisted, false],
  [`settings.cacheTtlHours = 10;`, (c) => c.retention.unusedMs, 36_000_000],
  [`settings.narStorageOpenTimeoutSecs = 5;`, (c) => c.workers.narOpenTimeoutMs, 5_000],
  [`settings.narSendChunkTimeoutSecs = 6;`, (c) => c.workers.narSendTimeoutMs, 6_000],
  [`settings.maxConcurrentNarServes = 3;`, (c) => c.workers.narServesMax, 3],
  [`settings.maxNarBufferBytes = 2097152;`, (c) => c.workers.narBufferBytesMax, 2_097_152],
  [`settings.trustedProxies = "192.0.2.1/32,::1/128";`, (c) => c.trustedProxies.length, 2],
  [`settings.trustedProxies = [ "192.0.2.1/32" "192.0.2.2/32" "::1/128" ];`, (c) => c.trustedProxies.length, 3],
  [`settings.localIps = [ "192.168.0.0/16" "fd00::/8" ];`, (c) => c.localIps.length, 2],
  [`settings.createOrg = "superusers";`, (c) => c.createOrganization, "superusers"],
  [`settings.createCache = "none";`, (c) => c.createCache, "none"],
  [`s3 = { enable = true; bucket = "nars"; };`, (c) => c.storage.s3?.bucket, "nars"],
  [
    `s3 = { enable = true; bucket = "nars"; accessKeyId = "id"; secretAccessKeyFile = "/run/secrets/s3"; };`,
    (c) => c.storage.s3?.credentials?.secretAccessKey.length,
    64,
  ],
  [`storage.movingTo = "s3"; s3 = { enable = true; bucket = "nars"; };`, (c) => c.storage.movingTo, "s3"],
  [`frontend.url = "https://ui.example.org/%d%20a";`, (c) => c.frontendUrl, "https://ui.example.org/%d%20a"],
];

/** What is refused, by a sentence of the refusal. */
const REFUSED: Readonly<Record<string, string | readonly string[]>> = {
  "services.gradient.domain is required": `services.gradient.domain = lib.mkForce null;`,
  "services.gradient.jwtSecretFile is required": `services.gradient.jwtSecretFile = lib.mkForce null;`,
  "services.gradient.cryptSecretFile is required": `services.gradient.cryptSecretFile = lib.mkForce null;`,
  "needs a database": `services.gradient.configurePostgres = lib.mkForce false;`,
  "enable nginx or caddy, not both": `services.gradient.reverseProxy.caddy.enable = true;`,
  "services.gradient.reportErrors needs": `services.gradient.reportErrors = true;`,
  "services.gradient.oidc.required needs": `services.gradient.oidc.required = true;`,
  "services.gradient.oidc.clientId is required with": `services.gradient.oidc.enable = true;`,
  "must hold openid": [snippet("oidc"), `services.gradient.oidc.scopes = lib.mkForce [ "email" ];`],
  "services.gradient.email.requireVerification needs": `services.gradient.email.requireVerification = true;`,
  "services.gradient.email.smtpHost is required with": `services.gradient.email.enable = true;`,
  "set both smtpUsername and smtpPasswordFile": `services.gradient.email.smtpUsername = "somebody";`,
  "services.gradient.githubApp.appId is required with": `services.gradient.githubApp.enable = true;`,
  "services.gradient.s3.bucket is required with": `services.gradient.s3.enable = true;`,
  "set both accessKeyId and secretAccessKeyFile": `services.gradient.s3.accessKeyId = "id";`,
  "services.gradient.storage.movingTo needs": `services.gradient.storage.movingTo = "s3";`,
  "useACMEHost needs services.gradient.useTls": `services.gradient = {
    useTls = false;
    reverseProxy.caddy.useACMEHost = "example.com";
  };`,
  "services.gradient.storage.sharedPath has no effect": `services.gradient = {
    storage.sharedPath = "/srv/objects"; s3 = { enable = true; bucket = "nars"; };
  };`,
  "services.gradient.baseDir lies below /home": `services.gradient.baseDir = "/home/gradient";`,
  "services.gradient.baseDir lies below /var/tmp": `services.gradient = {
    baseDir = "/var/tmp/gradient"; settings.allowLocalSources = true;
  };`,
  "services.gradient.baseDir may hold letters, digits and": `services.gradient.baseDir = "/srv/our gradient";`,
  "services.gradient.storage.sharedPath may hold": `services.gradient.storage.sharedPath = "/srv/50%";`,
  "services.gradient.listenAddr must be an IP address": `services.gradient.listenAddr = "/run/gradient.sock";`,
  "must be an IP address such as 127.0.0.1 or ::, and not 1.2.3.256": `services.gradient.listenAddr = "1.2.3.256";`,
  "or ::1/128: 10.0.0.0/33.": `services.gradient.settings.trustedProxies = "127.0.0.1,10.0.0.0/33";`,
  "or ::1/128: fd00::/129, here.": `services.gradient.settings.localIps = [ "fd00::/129" "here" ];`,
  "settings.trustedProxies holds what is no network": `services.gradient.settings.trustedProxies = "::1/";`,
  "settings.outboundAllow holds what is no network": `services.gradient.settings.outboundAllow = "localhost";`,
  "databaseMinConnections must not exceed": `services.gradient.databaseMinConnections = 33;`,
  "databaseWebMinConnections must not exceed": `services.gradient.databaseWebMinConnections = 17;`,
  "set exactly one of url and keep_url": [
    PROJECT,
    `services.gradient.state.projects.my-project.flake_input_overrides.nixpkgs = { };`,
  ],
};

const WRONG: Readonly<Record<string, string>> = {
  "a secret in the Nix store": `services.gradient.metricsTokenFile =
    "/nix/store/00000000000000000000000000000000-token";`,
  "a secret that would be copied there": `services.gradient.metricsTokenFile = ./token;`,
  "a domain with a scheme": `services.gradient.domain = lib.mkForce "https://gradient.example.com";`,
  "a port beyond all ports": `services.gradient.port = 65536;`,
  "an unknown log level": `services.gradient.settings.logLevel.web = "loud";`,
  "an unknown setting": `services.gradient.settings.keepEvaluation = 5;`,
  "an unknown part of the state": `services.gradient.state.user.alice.email = "alice@example.com";`,
  "a user without an address": `services.gradient.state.users.alice = { };`,
};

const systems = {
  minimal: withServer(MINIMAL),
  metrics: withServer(MINIMAL, snippet("metrics")),
  oidc: withServer(MINIMAL, snippet("oidc")),
  oidcAlone: withServer(MINIMAL, snippet("oidc"), "services.gradient.oidc.required = lib.mkForce true;"),
  email: withServer(MINIMAL, snippet("email")),
  githubApp: withServer(MINIMAL, snippet("github-app")),
  overrides: withServer(MINIMAL, snippet("flake-input-overrides"), PROJECT),
  databaseUrl: withServer(MINIMAL, `services.gradient.databaseUrlFile = "/run/secrets/database-url";`),
  otherDatabase: withServer(
    MINIMAL,
    `services.gradient.configurePostgres = lib.mkForce false;
     services.gradient.databaseUrlFile = "/run/secrets/database-url";`,
  ),
  checked: withServer(MINIMAL, `services.gradient.state.users.alice.email = "alice@example.com";`),
  moving: withServer(
    MINIMAL,
    `services.gradient = { storage.movingTo = "s3"; s3 = { enable = true; bucket = "nars"; }; };`,
  ),
  state: withServer(
    MINIMAL,
    `services.gradient.validateState = false;
     services.gradient.state = builtins.fromJSON (builtins.readFile ${EVERYTHING});`,
  ),
  oddNames: withServer(
    MINIMAL,
    `services.gradient.validateState = false;
     services.gradient.state.projects.web = {
       organization = "acme"; repository = "https://forge.example.com/acme/web.git"; created_by = null;
       actions = [ { name = "Größe 🚀/x"; type = "send_web_request";
         config = { url = "https://chat.example.com"; token_file = "/run/secrets/chat"; }; } ];
     };`,
  ),
  off: withServer(),
  ...Object.fromEntries(
    OPTIONS.map(([text], i) => [`option ${i}`, withServer(MINIMAL, `services.gradient = { ${text} };`)]),
  ),
  ...Object.fromEntries(Object.entries(REFUSED).map(([title, text]) => [title, withServer(MINIMAL, ...[text].flat())])),
  ...Object.fromEntries(Object.entries(WRONG).map(([title, text]) => [title, withServer(MINIMAL, text)])),
};

/** Nix writes sets by the order of their names, and null for what is not set. */
function withoutNulls(document: StateDocument): unknown {
  const sorted = Object.entries(document).map(([section, entries]) => [
    section,
    Object.fromEntries((entries as readonly { readonly key: string }[]).map((entry) => [entry.key, entry])),
  ]);
  return JSON.parse(JSON.stringify(Object.fromEntries(sorted), (_, value: unknown) => value ?? undefined));
}

const folder = await withTemporaryFolder();
afterAll(async () => await folder[Symbol.asyncDispose]());

describe.skipIf(!canEvaluate())("services.gradient", () => {
  const evaluated = evaluateSystems<string>(systems);
  const system = (name: string) => evaluated[name] ?? null;
  const unit = (name: string) => unitOf(system(name), "gradient-server");
  const started = (name: string, contents?: Record<string, string>) =>
    readConfig(startedEnvironment(unit(name), join(folder.path, "credentials"), contents));

  test("the documentation's smallest configuration is a whole server", () => {
    const { config, warnings } = started("minimal");
    expect(warnings).toEqual([]);
    expect(config.serveUrl).toBe("https://gradient.example.com");
    expect(config.frontendUrl).toBe("https://gradient.example.com");
    expect(config.database.url).toBe("postgresql://gradient@localhost/gradient?host=/run/postgresql");
    expect(config.listen).toMatchObject({ address: "127.0.0.1", port: 3000 });
    expect(config.basePath).toBe("/var/lib/gradient");
    expect(sound(system("minimal")).warnings).toEqual([]);
    expect(sound(system("minimal")).postgresql).toMatchObject({
      enable: true,
      ensureDatabases: ["gradient"],
      ensureUsers: [{ name: "gradient", ensureDBOwnership: true }],
    });
    expect(sound(system("minimal")).users.gradient).toMatchObject({ isSystemUser: true, group: "gradient" });
    expect(credentialsOf(unit("minimal"))).toEqual({
      "jwt-secret": "/run/secrets/gradient-jwt",
      "crypt-secret": "/run/secrets/gradient-crypt",
    });
  });

  test("what is not set is what the server takes by itself", () => {
    const { config } = started("minimal");
    const { GRADIENT_JWT_SECRET_FILE, GRADIENT_CRYPT_SECRET_FILE, GRADIENT_SERVE_URL, GRADIENT_DATABASE_URL } =
      startedEnvironment(unit("minimal"), join(folder.path, "credentials"));
    const own = readConfig({
      GRADIENT_JWT_SECRET_FILE,
      GRADIENT_CRYPT_SECRET_FILE,
      GRADIENT_SERVE_URL,
      GRADIENT_DATABASE_URL,
      GRADIENT_BASE_PATH: "/var/lib/gradient",
      GRADIENT_NGINX_STORAGE_LOCATION: "/internal-storage/",
      GRADIENT_NGINX_LOG_PATH: "/run/gradient-nginx",
      GRADIENT_CREDENTIALS_DIR: join(folder.path, "credentials"),
    }).config;
    expect(config).toEqual(own);
  });

  test("without enable nothing is set up", () => {
    const off = sound(system("off"));
    expect(off.services).toEqual({});
    expect(off.users).toEqual({});
    expect(off.tmpfiles).toEqual([]);
    expect(off.nginx.enable).toBe(false);
    expect(off.postgresql.enable).toBe(false);
  });

  test.each(OPTIONS.map(([text, look, expected], i) => ({ text, look, expected, i })))(
    "$text takes effect in the server",
    ({ look, expected, i }) => {
      expect(look(started(`option ${i}`).config)).toEqual(expected);
    },
  );

  test("metrics, single sign-on, mail and the GitHub App get their secrets as credentials", () => {
    expect(started("metrics").config.reports.metricsToken).not.toBeNull();
    expect(credentialsOf(unit("metrics"))["metrics-token"]).toBe("/run/secrets/gradient-metrics");

    expect(started("oidc").config.oidc).toMatchObject({
      clientId: "gradient",
      discoveryUrl: "https://auth.example.com",
      scopes: "openid email profile",
      required: false,
      iconUrl: null,
    });
    expect(credentialsOf(unit("oidc"))["oidc-client-secret"]).toBe("/run/secrets/gradient-oidc-secret");
    expect(started("oidcAlone").config.oidc?.required).toBe(true);

    expect(started("email").config.mail).toMatchObject({
      host: "smtp.example.com",
      port: 587,
      tls: "starttls",
      credentials: { username: "gradient@example.com" },
      from: { name: "Gradient", address: "gradient@example.com" },
      verificationRequired: true,
    });
    expect(credentialsOf(unit("email"))["email-smtp-password"]).toBe("/run/secrets/gradient-smtp");

    expect(unit("githubApp").environment).toMatchObject({
      GRADIENT_GITHUB_APP_ID: "123456",
      GRADIENT_GITHUB_APP_PRIVATE_KEY_FILE: "%d/github-app-private-key",
      GRADIENT_GITHUB_APP_WEBHOOK_SECRET_FILE: "%d/github-app-webhook-secret",
    });
    expect(credentialsOf(unit("githubApp"))).toMatchObject({
      "github-app-private-key": "/run/secrets/gradient-github-app-key",
      "github-app-webhook-secret": "/run/secrets/gradient-github-app-webhook-secret",
    });
  });

  test("a file with a connection string overrides the database of this machine", () => {
    const contents = { "database-url": "postgresql://ci:secret@db.example.com/ci\n" };
    expect(started("databaseUrl", contents).config.database.url).toBe("postgresql://ci:secret@db.example.com/ci");
    expect(sound(system("databaseUrl")).postgresql.enable).toBe(true);
    expect(started("otherDatabase", contents).config.database.url).toContain("db.example.com");
    expect(sound(system("otherDatabase")).postgresql.enable).toBe(false);
    expect(unit("otherDatabase").after).not.toContain("postgresql.target");
  });

  test("a move of the storage has a unit with the server's environment and secrets, to be started by hand", () => {
    const mover = unitOf(system("moving"), "gradient-migrate-storage");
    expect(mover.environment).toEqual(unit("moving").environment);
    expect(credentialsOf(mover)).toEqual(credentialsOf(unit("moving")));
    expect(mover.serviceConfig.ExecStart).toMatch(/gradient-server migrate-storage$/);
    expect(mover.wantedBy).toEqual([]);
    expect(sound(system("minimal")).services).not.toHaveProperty("gradient-migrate-storage");
  });

  test("no secret is in the environment or in the store", () => {
    for (const name of ["minimal", "metrics", "oidc", "email", "githubApp", "databaseUrl"]) {
      const values = Object.entries(unit(name).environment).filter(([variable]) => variable.endsWith("_FILE"));
      expect(values.length).toBeGreaterThan(0);
      for (const [, value] of values) expect(value).toMatch(/^%d\/[a-z-]+$/);
    }
  });

  test("each variable is one that the server knows, but those of forges, which it does not speak to yet", () => {
    const all = ["githubApp", "email", "oidc", "metrics", "state", ...OPTIONS.map((_, i) => `option ${i}`)];
    const environment = Object.assign({}, ...all.map((name) => unit(name).environment)) as Record<string, string>;
    expect(unknownNameWarnings(environment).map((words) => words.split(" ")[0])).toEqual([
      "GRADIENT_GITHUB_APP_ID",
      "GRADIENT_GITHUB_APP_PRIVATE_KEY_FILE",
      "GRADIENT_GITHUB_APP_WEBHOOK_SECRET_FILE",
    ]);
  });

  test("each variable that the server knows has an option", () => {
    const text = readFileSync(join(ROOT, "runtime/node/config/names.ts"), "utf8");
    const known = [...text.matchAll(/^ {2}"([A-Z0-9_]+)",$/gm)].map(([, name]) => name as string);
    expect(known.length).toBeGreaterThan(80);
    const modules = ["service.nix", "settings.nix"].map((file) =>
      readFileSync(join(ROOT, "nixos/modules/server", file), "utf8"),
    );
    // Several servers on one machine are no NixOS services; LOG_LEVEL has its option in a file for both modules.
    const without = ["REUSE_PORT", "LOG_LEVEL"];
    const missing = known.filter((name) => {
      const words = [`"${name}"`, ` ${name} = `, ` ${name.replace(/_FILE$/, "")} = `, `GRADIENT_${name} = `];
      return !without.includes(name) && !words.some((word) => modules.some((module) => module.includes(word)));
    });
    expect(missing).toEqual([]);
  });

  test("every option says its type, what it is for, and an example", () => {
    expect(sound(system("minimal")).undocumented).toEqual([]);
  });

  test("the state is written as the server reads it, and checked by it while the system is built", () => {
    expect(unit("minimal").environment).not.toHaveProperty("GRADIENT_STATE_FILE");
    expect(sound(system("checked")).stateFile).toMatch(/bin\/gradient-server validate-state \S+-gradient-state\.json/);
    expect(unit("checked").environment.GRADIENT_STATE_FILE).toMatch(/-gradient-state\.json$/);

    const { document, problems } = readState(JSON.parse(sound(system("overrides")).stateFile ?? ""));
    expect(problems).toEqual([]);
    expect(document.projects[0]?.flake_input_overrides).toEqual({
      nixpkgs: { url: "github:NixOS/nixpkgs/nixos-unstable", keep_url: false },
      "flake-utils": { url: null, keep_url: true },
    });
  });

  test("whatever can be declared passes through the module unchanged", () => {
    const written = JSON.parse(sound(system("state")).stateFile ?? "") as unknown;
    expect(checkState(written, { allowLocalSources: false, mailEnabled: null }).problems).toEqual([]);
    expect(withoutNulls(readState(written).document)).toEqual(
      withoutNulls(readState(JSON.parse(readFileSync(EVERYTHING, "utf8"))).document),
    );
  });

  test("each secret of the state is a credential of the name that the server looks for", () => {
    for (const name of ["state", "oddNames"]) {
      const { document } = readState(JSON.parse(sound(system(name)).stateFile ?? ""));
      const wanted = Object.fromEntries(secretsOf(document).map(({ credential, file }) => [credential, file]));
      expect(Object.keys(wanted).length).toBeGreaterThan(0);
      expect(sound(system(name)).stateCredentials).toEqual(wanted);
      expect(credentialsOf(unit(name))).toMatchObject(wanted);
    }
  });

  test.each(Object.keys(REFUSED))("what contradicts itself is refused: %s", (words) => {
    const found = system(words);
    expect(found).not.toBeNull();
    expect(found?.failed.join("\n")).toContain(words);
  });

  test.each(Object.keys(WRONG))("no system has %s", (title) => {
    expect(system(title)).toBeNull();
  });
});
