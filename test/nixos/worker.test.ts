import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { checkState } from "#core/services/state-check.ts";
import { secretsOf } from "#core/services/state-secrets.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readWorkerConfig, type WorkerConfig } from "#worker/config.ts";
import { unknownNameWarnings } from "#worker/config-names.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import {
  credentialsOf,
  MINIMAL,
  REMOTE_WORKER,
  snippet,
  sound,
  startedEnvironment,
  unitOf,
  withModules,
  withServer,
  withWorker,
} from "./support/systems.ts";

const ROOT = join(import.meta.dirname, "../..");
const BESIDE = snippet("worker-beside-server");
const NO_PEERS = `services.gradient.worker = {
  enable = true;
  serverUrl = "wss://gradient.example.com/proto";
};`;
const RELAY = 'capabilities.federate = true; discoverable = true; downstreamsFile = "/run/secrets/downstreams";';

/** Every row of the documentation's table: what is set, and what comes of it in the worker. */
const OPTIONS: readonly (readonly [string, (config: WorkerConfig) => unknown, unknown])[] = [
  [`serverUrl = lib.mkForce "ws://ci.example.org/proto";`, (c) => c.serverUrl, "ws://ci.example.org/proto"],
  [`workerId = "550e8400-e29b-41d4-a716-446655440001";`, (c) => c.workerId, "550e8400-e29b-41d4-a716-446655440001"],
  [`discoverable = true;`, (c) => c.listen, { address: "127.0.0.1", port: 3100, connectionsMax: 16 }],
  [`discoverable = true; listenAddr = "::1";`, (c) => c.listen?.address, "::1"],
  [`discoverable = true; port = 3210;`, (c) => c.listen?.port, 3210],
  [`discoverable = true; settings.maxProtoConnections = 4;`, (c) => c.listen?.connectionsMax, 4],
  [`baseDir = "/srv/worker";`, (c) => c.dataDir, "/srv/worker"],
  [`capabilities.fetch = true;`, (c) => c.capabilities.fetch, true],
  [`capabilities.eval = true;`, (c) => c.capabilities.eval, true],
  [`capabilities.build = true;`, (c) => c.capabilities.build, true],
  [`capabilities.sign = true;`, (c) => c.capabilities.sign, true],
  [RELAY, (c) => [c.capabilities.federate, c.federation?.port], [true, 3100]],
  [`settings.maxConcurrentBuilds = 8;`, (c) => c.buildsMax, 8],
  [`settings.evalWorkers = 2;`, (c) => c.evaluatorsMax, 2],
  [`settings.maxConcurrentEvaluations = 2;`, (c) => c.evaluationsMax, 2],
  [`settings.maxEvaluationsPerWorker = 0;`, (c) => c.evaluationsPerEvaluatorMax, 0],
  [`settings.maxNixdaemonConnections = 64;`, (c) => c.daemonConnectionsMax, 64],
  [`settings.gcrootsDir = "/nix/var/nix/gcroots/ci";`, (c) => c.gcRootsDir, "/nix/var/nix/gcroots/ci"],
  [`settings.gcrootsDir = "";`, (c) => c.gcRootsDir, null],
  [`settings.logLevel.default = "warn";`, (c) => [c.logLevels.default, c.logLevels.eval], ["warn", "warn"]],
  [`settings.logLevel.eval = "debug";`, (c) => [c.logLevels.default, c.logLevels.eval], ["info", "debug"]],
  [`settings.logLevel.build = "trace";`, (c) => c.logLevels.build, "trace"],
  [`settings.logLevel.proto = "error";`, (c) => c.logLevels.proto, "error"],
  [`settings.architectures = [ "x86_64-linux" "i686-linux" ];`, (c) => c.architectures, ["x86_64-linux", "i686-linux"]],
  [`settings.systemFeatures = [ "kvm" ];`, (c) => c.systemFeatures, ["kvm"]],
  [`settings.buildMetrics = true;`, (c) => c.metering.sampling, true],
];

const REFUSED: Readonly<Record<string, string>> = {
  "services.gradient.worker.serverUrl is required": `services.gradient.worker.serverUrl = lib.mkForce null;`,
  "capabilities.federate needs services.gradient.worker.discoverable":
    "services.gradient.worker.capabilities.federate = true;",
  "capabilities.federate needs services.gradient.worker.downstreamsFile":
    "services.gradient.worker.capabilities.federate = true;",
  "reverseProxy.nginx.enable needs services.gradient.worker.discoverable":
    "services.gradient.worker.reverseProxy.nginx.enable = true;",
  "reverseProxy.caddy.enable needs services.gradient.worker.discoverable":
    "services.gradient.worker.reverseProxy.caddy.enable = true;",
  "worker.reverseProxy: enable nginx or caddy, not both": `services.gradient.worker = {
    discoverable = true; domain = "builder.example.com";
    reverseProxy = { nginx.enable = true; caddy.enable = true; };
  };`,
  "worker.reverseProxy.caddy.useACMEHost needs services.gradient.worker.useTls": `services.gradient.worker = {
    useTls = false; reverseProxy.caddy.useACMEHost = "example.com";
  };`,
  "worker.listenAddr must be an IP address": `services.gradient.worker.listenAddr = "/run/worker.sock";`,
  "worker.baseDir may hold letters, digits and": `services.gradient.worker.baseDir = "/srv/the worker";`,
  "worker.baseDir lies below /home": `services.gradient.worker.baseDir = "/home/worker";`,
  "worker.settings.gcrootsDir lies below /tmp": `services.gradient.worker.settings.gcrootsDir = "/tmp/roots";`,
  "evaluations need Nix 2.26 or later": `services.gradient.worker.capabilities.eval = true;
    nix.package = { type = "derivation"; name = "nix"; outPath = "/nix/store/aaaa-nix"; version = "2.18.9"; };`,
};

const url = (text: string) => `worker.serverUrl = lib.mkForce "${text}";`;
/** Whether a worker with the address gets the token of its machine's server, or is refused. */
const REACHED: Readonly<Record<string, boolean>> = {
  "port = 3210;": false,
  [`port = 3210; ${url("ws://127.0.0.1:3210/proto")}`]: true,
  [url("ws://127.0.0.1/proto")]: false,
  [`port = 80; ${url("ws://127.0.0.1/proto")}`]: true,
  // Where the server does not listen, anybody may.
  [url("ws://[::1]:3000/proto")]: false,
  [url("ws://localhost:3000/proto")]: false,
  [`listenAddr = "::"; ${url("ws://localhost:3000/proto")}`]: true,
  [`listenAddr = "0.0.0.0"; ${url("ws://127.0.0.1:3000/proto")}`]: true,
  [`listenAddr = "0.0.0.0"; ${url("ws://[::1]:3000/proto")}`]: false,
  [`listenAddr = "10.0.0.5"; ${url("ws://10.0.0.5:3000/proto")}`]: true,
  [`listenAddr = "10.0.0.5"; ${url("ws://10.0.0.5:3001/proto")}`]: false,
  'listenAddr = "10.0.0.5";': false,
  [url("wss://gradient.example.com:8443/proto")]: true,
  [url("ws://gradient.example.com/proto")]: true,
  [url("ws://gradient.example.com:3001/proto")]: false,
};

const BOTH: Readonly<Record<string, string>> = {
  "services.gradient.discoverable = false shuts out the worker": "services.gradient.discoverable = false;",
  "services.gradient.worker.port is services.gradient.port (3000)":
    "services.gradient.worker = { discoverable = true; port = 3000; };",
  "both would listen there": `services.gradient = {
    listenAddr = "0.0.0.0"; worker = { discoverable = true; port = 3000; };
  };`,
};

const systems = {
  ...Object.fromEntries(Object.entries(BOTH).map(([title, text]) => [title, withServer(MINIMAL, BESIDE, text)])),
  otherAddress: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker = { discoverable = true; port = 3000; listenAddr = "10.0.0.5"; };`,
  ),
  otherNix: withWorker(
    REMOTE_WORKER,
    `services.gradient.worker.capabilities.eval = true;
     nix.package =
       { type = "derivation"; name = "lix"; pname = "lix"; outPath = "/nix/store/aaaa-lix"; version = "2.93"; };
     services.gradient.worker.nixPackage =
       { type = "derivation"; name = "nix"; outPath = "/nix/store/bbbb-nix"; version = "2.31.2"; };`,
  ),
  remote: withModules([], [snippet("worker-remote")]),
  beside: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.validateState = false;
     services.gradient.state.organizations = { acme.created_by = null; g = { name = "globex"; created_by = null; }; };`,
  ),
  besideChecked: withServer(MINIMAL, BESIDE),
  besideElsewhere: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker.serverUrl = lib.mkForce "wss://other.org/proto";`,
  ),
  besideTrick: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker.serverUrl = lib.mkForce "ws://127.0.0.1:80@other.org/proto";`,
  ),
  besideDomain: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker.serverUrl = lib.mkForce "wss://gradient.example.com/proto";`,
  ),
  besideIpv6: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.listenAddr = "::1"; services.gradient.worker.serverUrl = lib.mkForce "ws://[::1]:3000";`,
  ),
  ...Object.fromEntries(
    Object.keys(REACHED).map((text) => [text, withServer(MINIMAL, BESIDE, `services.gradient = { ${text} };`)]),
  ),
  nameless: withServer(MINIMAL, BESIDE, `services.gradient.validateState = false; networking.hostName = "";`),
  besideRegistered: withServer(MINIMAL, BESIDE, `services.gradient.worker.peersFile = "/run/secrets/peers";`),
  besideOff: withModules(["default", "gradient-worker"], [MINIMAL]),
  besideSameDomain: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker = {
       discoverable = true; domain = "gradient.example.com"; reverseProxy.nginx.enable = true;
     };`,
  ),
  besideOtherProxy: withServer(
    MINIMAL,
    BESIDE,
    `services.gradient.worker = {
       discoverable = true; domain = "builder.example.com"; reverseProxy.caddy.enable = true;
     };`,
  ),
  noPeers: withWorker(NO_PEERS),
  off: withWorker(),
  metered: withWorker(REMOTE_WORKER, "services.gradient.worker.settings.buildMetrics = true;"),
  relay: withWorker(REMOTE_WORKER, `services.gradient.worker = { ${RELAY} };`),
  behindNginx: withWorker(
    REMOTE_WORKER,
    `services.gradient.worker = {
       discoverable = true; domain = "builder.example.com"; reverseProxy.nginx.enable = true;
     };`,
  ),
  behindNginxPlain: withWorker(
    REMOTE_WORKER,
    `services.gradient.worker = {
       discoverable = true; domain = "builder.example.com"; reverseProxy.nginx.enable = true; useTls = false;
     };`,
  ),
  behindCaddy: withWorker(
    REMOTE_WORKER,
    `services.gradient.worker = {
       discoverable = true; domain = "builder.example.com";
       reverseProxy.caddy = { enable = true; useACMEHost = "example.com"; extraConfig = "log"; };
     };`,
  ),
  behindCaddyPlain: withWorker(
    REMOTE_WORKER,
    `services.gradient.worker = {
       discoverable = true; domain = "builder.example.com"; reverseProxy.caddy.enable = true; useTls = false;
     };`,
  ),
  ...Object.fromEntries(
    OPTIONS.map(([text], i) => [`option ${i}`, withWorker(REMOTE_WORKER, `services.gradient.worker = { ${text} };`)]),
  ),
  ...Object.fromEntries(Object.entries(REFUSED).map(([title, text]) => [title, withWorker(REMOTE_WORKER, text)])),
};

const folder = await withTemporaryFolder();
afterAll(async () => await folder[Symbol.asyncDispose]());

describe.skipIf(!canEvaluate())("services.gradient.worker", () => {
  const evaluated = evaluateSystems<string>(systems);
  const system = (name: string) => evaluated[name] ?? null;
  const unit = (name: string) => unitOf(system(name), "gradient-worker");
  const started = (name: string) => readWorkerConfig(startedEnvironment(unit(name), folder.path));

  test("the documentation's worker on a machine of its own is whole", () => {
    const { config, warnings } = started("remote");
    expect(warnings).toEqual([]);
    expect(config).toMatchObject({
      serverUrl: "wss://gradient.example.com/proto",
      capabilities: { fetch: true, eval: true, build: true, sign: true, federate: false },
      buildsMax: 8,
      evaluatorsMax: 2,
      evaluationsMax: 2,
      workerId: null,
      nixRemote: "daemon",
    });
    expect(credentialsOf(unit("remote"))).toEqual({ peers: "/run/secrets/gradient-worker-peers" });
    expect(unit("remote").environment.GRADIENT_WORKER_PEERS_FILE).toBe("%d/peers");
    expect(sound(system("remote")).warnings).toEqual([]);
    expect(Object.keys(sound(system("remote")).services)).toEqual(["gradient-worker"]);
  });

  test("what is not set is what the worker takes by itself", () => {
    const { config } = readWorkerConfig(startedEnvironment(unit("noPeers"), folder.path));
    const own = readWorkerConfig({
      GRADIENT_WORKER_SERVER_URL: "wss://gradient.example.com/proto",
      GRADIENT_BINPATH_NIX: config.nixCommand,
      GRADIENT_BINPATH_SSH: config.sshCommand,
    }).config;
    expect(config).toEqual(own);
  });

  test("its user is trusted by the machine's Nix, which knows what it builds", () => {
    const { nix, users } = sound(system("remote"));
    expect(nix["trusted-users"]).toEqual(["root", "gradient-worker"]);
    expect(nix["extra-experimental-features"]).toEqual(["nix-command", "flakes", "ca-derivations"]);
    expect(users["gradient-worker"]).toMatchObject({ isSystemUser: true, group: "gradient-worker" });
    expect(sound(system("remote")).tmpfiles).toContain(
      "d /nix/var/nix/gcroots/gradient 0755 gradient-worker gradient-worker -",
    );

    expect(sound(system("metered")).nix).toMatchObject({ "use-cgroups": true });
    expect(unitOf(system("metered"), "nix-daemon").serviceConfig.Delegate).toBe(true);

    // A relay builds nothing and needs no trust.
    expect(sound(system("relay")).nix["trusted-users"]).toEqual([]);
  });

  test.each(OPTIONS.map(([text, look, expected], i) => ({ text, look, expected, i })))(
    "$text takes effect in the worker",
    ({ look, expected, i }) => {
      expect(look(started(`option ${i}`).config)).toEqual(expected);
    },
  );

  test("without enable nothing is set up", () => {
    expect(sound(system("off")).services).toEqual({});
    expect(sound(system("off")).nix["trusted-users"]).toEqual([]);
    expect(Object.keys(sound(system("besideOff")).services)).toEqual(["gradient-server", "nginx"]);
  });

  test("beside its server it needs no registration: both get one token, made at the first start", () => {
    const beside = sound(system("beside"));
    expect(beside.warnings).toEqual([]);
    const id = started("beside").config.workerId;
    const { document, problems } = checkState(JSON.parse(beside.stateFile ?? ""), {
      allowLocalSources: false,
      mailEnabled: null,
    });
    expect(problems).toEqual([]);
    expect(document.workers).toMatchObject([{ worker_id: id, base_worker: true, created_by: null }]);
    // The organizations of the same file have it without asking.
    expect(document.workers[0]?.organizations).toEqual(["acme", "globex"]);

    const [need] = secretsOf(document);
    const tokenPath = "/var/lib/gradient-worker-token/token";
    expect(credentialsOf(unitOf(beside, "gradient-server"))[need?.credential ?? ""]).toBe(tokenPath);
    expect(credentialsOf(unit("beside"))).toEqual({ peers: "/var/lib/gradient-worker-token/peers" });

    const maker = unitOf(beside, "gradient-worker-token");
    expect(maker.before).toEqual(["gradient-server.service", "gradient-worker.service"]);
    expect(maker.requiredBy).toEqual(["gradient-server.service", "gradient-worker.service"]);
    expect(maker.serviceConfig).toMatchObject({ StateDirectory: "gradient-worker-token", StateDirectoryMode: "0700" });
    expect(sound(system("besideChecked")).stateFile).toContain("validate-state");
  });

  test("a server elsewhere never gets the token of this machine's, nor is one made for who has a registration", () => {
    for (const name of ["besideDomain", "besideIpv6"]) {
      expect(sound(system(name)).services).toHaveProperty("gradient-worker-token");
    }
    for (const name of ["besideElsewhere", "besideTrick", "besideRegistered"]) {
      expect(sound(system(name)).services).not.toHaveProperty("gradient-worker-token");
      expect(sound(system(name)).stateFile).toBeNull();
    }
    expect(credentialsOf(unit("besideElsewhere"))).toEqual({});
    expect(credentialsOf(unit("besideRegistered"))).toEqual({ peers: "/run/secrets/peers" });
  });

  test.each(Object.entries(REACHED))("a token goes to this machine's own server alone: %s", (text, reached) => {
    const found = system(text);
    if (reached) return expect(sound(found).services).toHaveProperty("gradient-worker-token");
    expect(found?.failed).toHaveLength(1);
    expect(found?.failed[0]).toContain("worker.serverUrl leads to this machine, but not to its server");
  });

  test("what worker and server cannot both have on one machine is refused", () => {
    for (const words of Object.keys(BOTH)) expect(system(words)?.failed.join("\n")).toContain(words);
    expect(sound(system("otherAddress")).services).toHaveProperty("gradient-worker-token");
  });

  test("a machine without a name of its own has a worker beside its server, too", () => {
    const { document, problems } = checkState(JSON.parse(sound(system("nameless")).stateFile ?? ""), {
      allowLocalSources: false,
      mailEnabled: null,
    });
    expect(problems).toEqual([]);
    expect(document.workers).toHaveLength(1);
  });

  test("worker and server have virtual hosts of different names", () => {
    expect(system("besideSameDomain")?.failed.join()).toContain("domain must not be services.gradient.domain");
  });

  test("where the machine's Nix lets flakes read too much, the worker evaluates by another", () => {
    const { environment, path } = unit("otherNix");
    expect(environment.GRADIENT_BINPATH_NIX).toBe("/nix/store/bbbb-nix/bin/nix");
    expect(path.join()).toContain("bbbb-nix");
    expect(path.join()).not.toContain("lix");
  });

  test("who has given no token is told", () => {
    expect(sound(system("noPeers")).warnings.join()).toContain("services.gradient.worker.peersFile is not set");
  });

  test("a discoverable worker has a virtual host, with a certificate unless useTls is off", () => {
    const host = sound(system("behindNginx")).nginx.virtualHosts["builder.example.com"];
    expect(host).toMatchObject({ enableACME: true, forceSSL: true });
    expect(Object.keys(host?.locations ?? {})).toEqual(["/proto"]);
    expect(host?.locations["/proto"]).toMatchObject({ proxyPass: "http://127.0.0.1:3100" });
    expect(host?.locations["/proto"]?.extraConfig).toContain("proxy_read_timeout 90d;");
    expect(sound(system("behindNginxPlain")).nginx.virtualHosts["builder.example.com"]).toMatchObject({
      enableACME: false,
      forceSSL: false,
    });
    expect(sound(system("remote")).nginx.enable).toBe(false);
  });

  test("behind Caddy it has a site that leads to its /proto alone, and takes what is added last", () => {
    const { caddy, nginx } = sound(system("behindCaddy"));
    const site = caddy.virtualHosts["builder.example.com"];
    expect(site?.useACMEHost).toBe("example.com");
    expect(site?.extraConfig).toMatch(/^handle \/proto \{\n {2}reverse_proxy 127\.0\.0\.1:3100 \{/);
    expect(site?.extraConfig).toMatch(/handle \{\n {2}respond 404\n\}\nlog$/);
    expect(nginx.enable).toBe(false);
    expect(Object.keys(sound(system("behindCaddyPlain")).caddy.virtualHosts)).toEqual(["http://builder.example.com"]);
    expect(sound(system("remote")).caddy.enable).toBe(false);
    expect(system("besideOtherProxy")?.failed.join()).toContain("both would listen on the same ports");
  });

  test("each variable is one that the worker knows, and each that it knows has an option", () => {
    const names = ["beside", ...OPTIONS.map((_, i) => `option ${i}`)];
    const environment = Object.assign({}, ...names.map((name) => unit(name).environment)) as Record<string, string>;
    expect(unknownNameWarnings(environment)).toEqual([]);

    const text = readFileSync(join(ROOT, "worker/config-names.ts"), "utf8");
    const known = [...text.matchAll(/^ {2}"([A-Z_]+)",$/gm)].map(([, name]) => name as string);
    expect(known.length).toBeGreaterThan(35);
    const modules = ["service.nix", "settings.nix", "../variables.nix"].map((file) =>
      readFileSync(join(ROOT, "nixos/modules/worker", file), "utf8"),
    );
    // The text of a secret is nothing for a configuration, and only a worker of root's has evaluators of another user.
    const without = ["WORKER_PEERS", "WORKER_EVALUATOR_USER"];
    const missing = known.filter((name) => {
      const secret = /^WORKER_(.*)_FILE$/.exec(name)?.[1]?.toLowerCase().replaceAll("_", "-");
      const words = [`"${name}"`, ` ${name} = `, ...(secret ? [` ${secret} = `] : [])];
      return !without.includes(name) && !words.some((word) => modules.some((module) => module.includes(word)));
    });
    expect(missing).toEqual([]);
  });

  test("every option says its type, what it is for, and an example", () => {
    expect(sound(system("remote")).undocumented).toEqual([]);
  });

  test.each(Object.keys(REFUSED))("what contradicts itself is refused: %s", (words) => {
    expect(system(words)?.failed.join("\n")).toContain(words);
  });
});
