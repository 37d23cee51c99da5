import { expect, test } from "vitest";
import { readWorkerConfig, WorkerConfigError } from "#worker/config.ts";

const REQUIRED = { GRADIENT_WORKER_SERVER_URL: "wss://gradient.example.com/proto" };

function read(environment: Readonly<Record<string, string>> = {}) {
  return readWorkerConfig({ ...REQUIRED, GRADIENT_WORKER_PEERS_FILE: "/run/peers", ...environment });
}

function problems(environment: Readonly<Record<string, string>>): readonly string[] {
  try {
    read(environment);
  } catch (error) {
    if (error instanceof WorkerConfigError) return error.problems;
    throw error;
  }
  return [];
}

test("what is not set has the documented default", () => {
  const { config } = read();

  expect(config).toMatchObject({
    serverUrl: "wss://gradient.example.com/proto",
    dataDir: "/var/lib/gradient-worker",
    capabilities: { fetch: false, eval: false, build: false, sign: false, federate: false },
    buildsMax: 100,
    buildCoresMax: null,
    logLimits: { bytesPerMinute: 8 * 2 ** 20, bytesPerHour: 64 * 2 ** 20 },
    metering: { sampling: false, cgroupRoot: "/sys/fs/cgroup" },
    sharedStore: false,
    signingKeyFile: null,
    evaluationsMax: 1,
    evaluatorsMax: 1,
    evaluatorMemoryBytesMax: 8 * 2 ** 30,
    daemonConnectionsMax: 32,
    gcRootsDir: "/nix/var/nix/gcroots/gradient",
    allowLocalSources: false,
    evaluatorUser: null,
    nixCommand: "nix",
    nixRemote: "daemon",
    daemonStore: { socketPath: "/nix/var/nix/daemon-socket/socket", root: "" },
  });
});

test("all that is wrong is reported at once", () => {
  const found = problems({
    GRADIENT_WORKER_SERVER_URL: "gradient.example.com",
    GRADIENT_MAX_CONCURRENT_BUILDS: "many",
    GRADIENT_WORKER_ID: "550e8400-e29b-11d4-a716-446655440001",
    GRADIENT_WORKER_CAPABILITY_BUILD: "yes",
    GRADIENT_WORKER_GCROOTS_DIR: "roots",
    GRADIENT_WORKER_EVALUATOR_USER: "-x:0",
    NIX_REMOTE: "https://cache.example.com",
    GRADIENT_LOG_LEVEL: "loud",
  });

  expect(found.map((problem) => /^[A-Z_]+/.exec(problem)?.[0])).toEqual([
    "GRADIENT_WORKER_SERVER_URL",
    "GRADIENT_WORKER_ID",
    "GRADIENT_WORKER_CAPABILITY_BUILD",
    "GRADIENT_MAX_CONCURRENT_BUILDS",
    "GRADIENT_WORKER_GCROOTS_DIR",
    "GRADIENT_WORKER_EVALUATOR_USER",
    "NIX_REMOTE",
    "GRADIENT_LOG_LEVEL",
  ]);
});

test("a worker without a server's address does not start, unless the server dials it", () => {
  expect(() => readWorkerConfig({})).toThrow("GRADIENT_WORKER_SERVER_URL is required");
  const { config } = readWorkerConfig({ GRADIENT_WORKER_DISCOVERABLE: "true" });
  expect(config).toMatchObject({
    serverUrl: null,
    listen: { address: "127.0.0.1", port: 3100, connectionsMax: 16 },
  });
  const named = read({
    GRADIENT_WORKER_DISCOVERABLE: "true",
    GRADIENT_WORKER_LISTEN_ADDR: "::",
    GRADIENT_WORKER_PORT: "4100",
    GRADIENT_MAX_PROTO_CONNECTIONS: "2",
  }).config;
  expect(named).toMatchObject({
    serverUrl: "wss://gradient.example.com/proto",
    listen: { address: "::", port: 4100, connectionsMax: 2 },
  });
  expect(read({ GRADIENT_WORKER_PORT: "4100" }).config.listen).toBeNull();
});

test.each([
  ["wss://gradient.example.com", "wss://gradient.example.com/proto"],
  ["https://gradient.example.com/", "wss://gradient.example.com/proto"],
  ["http://127.0.0.1:3000/ci/proto", "ws://127.0.0.1:3000/ci/proto"],
])("the server's address %s means %s", (given, meant) => {
  expect(read({ GRADIENT_WORKER_SERVER_URL: given }).config.serverUrl).toBe(meant);
});

test("a relay listens for workers, and dials its server itself", () => {
  const relay = {
    GRADIENT_WORKER_CAPABILITY_FEDERATE: "true",
    GRADIENT_WORKER_DISCOVERABLE: "true",
    GRADIENT_WORKER_DOWNSTREAMS_FILE: "/run/downstreams",
    GRADIENT_WORKER_PORT: "4100",
  };
  const { config } = read(relay);
  expect(config).toMatchObject({
    serverUrl: "wss://gradient.example.com/proto",
    listen: null,
    federation: { address: "127.0.0.1", port: 4100, connectionsMax: 16, downstreamsFile: "/run/downstreams" },
    capabilities: { federate: true },
  });
  expect(read({ ...relay, GRADIENT_WORKER_CAPABILITY_FEDERATE: "false" }).config.federation).toBeNull();
  expect(problems({ ...relay, GRADIENT_WORKER_SERVER_URL: "" })).toEqual([
    expect.stringContaining("GRADIENT_WORKER_SERVER_URL is required"),
  ]);
  expect(problems({ GRADIENT_WORKER_CAPABILITY_FEDERATE: "true" })).toEqual([
    expect.stringContaining("needs GRADIENT_WORKER_DISCOVERABLE=true"),
    expect.stringContaining("needs GRADIENT_WORKER_DOWNSTREAMS_FILE"),
  ]);
});

test("an option that nothing reads is named together with the one that was meant", () => {
  const { warnings } = read({
    GRADIENT_WORKER_CAPABILITY_BULD: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURENT_BUILDS: "2",
    GRADIENT_NONSENSE: "1",
    // The server's.
    GRADIENT_DATABASE_URL: "postgres:///gradient",
  });

  expect(warnings).toEqual([
    "GRADIENT_MAX_CONCURENT_BUILDS is not an option of this worker; did you mean GRADIENT_MAX_CONCURRENT_BUILDS?",
    "GRADIENT_NONSENSE is not an option of this worker",
    "GRADIENT_WORKER_CAPABILITY_BULD is not an option of this worker; did you mean GRADIENT_WORKER_CAPABILITY_BUILD?",
  ]);
});

test("a worker that could get no job, or no session, says so", () => {
  const { warnings } = readWorkerConfig(REQUIRED);

  expect(warnings).toEqual([expect.stringContaining("no jobs"), expect.stringContaining("no token")]);
});

test("the empty text switches roots off, and zero the limit of memory", () => {
  const { config } = read({ GRADIENT_WORKER_GCROOTS_DIR: "", GRADIENT_MAX_EVAL_RSS: "0" });

  expect(config).toMatchObject({ gcRootsDir: null, evaluatorMemoryBytesMax: null });
});

test("how builds run, what they may log and who signs is set by options", () => {
  const { config, warnings } = read({
    GRADIENT_WORKER_CAPABILITY_SIGN: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_WORKER_SIGNING_KEY_FILE: "/run/secrets/key",
    GRADIENT_WORKER_SHARED_STORE: "true",
    GRADIENT_WORKER_MAX_BUILD_CORES: "4",
    GRADIENT_WORKER_BUILD_METRICS: "true",
    GRADIENT_WORKER_BUILD_CGROUP_ROOT: "/cgroup",
    GRADIENT_LOG_BURST_BYTES_PER_MIN: "2048",
    GRADIENT_LOG_SUSTAINED_BYTES_PER_HOUR: "4096",
  });

  expect(warnings).toEqual([]);
  expect(config).toMatchObject({
    capabilities: { sign: true },
    signingKeyFile: "/run/secrets/key",
    sharedStore: true,
    buildCoresMax: 4,
    metering: { sampling: true, cgroupRoot: "/cgroup" },
    logLimits: { bytesPerMinute: 2048, bytesPerHour: 4096 },
  });
  expect(problems({ GRADIENT_LOG_BURST_BYTES_PER_MIN: "0", GRADIENT_WORKER_SIGNING_KEY_FILE: "key" })).toHaveLength(2);
});

test("the state folder of the systemd unit is the data folder, unless another one is named", () => {
  const unit = { STATE_DIRECTORY: "/var/lib/one:/var/lib/two" };

  expect(read(unit).config.dataDir).toBe("/var/lib/one");
  expect(read({ ...unit, GRADIENT_WORKER_DATA_DIR: "/srv/worker" }).config.dataDir).toBe("/srv/worker");
});

test("programs get none of our own variables, which may be secrets", () => {
  const { config } = read({
    PATH: "/bin",
    https_proxy: "http://proxy:3128",
    GRADIENT_WORKER_PEERS: "x",
    AWS_SECRET: "y",
  });

  expect(config.childVariables).toEqual({ PATH: "/bin", https_proxy: "http://proxy:3128" });
});

test("how evaluations run is an option each", () => {
  const { config } = read({});
  expect(config).toMatchObject({
    evaluationsMax: 1,
    evaluatorsMax: 1,
    evaluationsPerEvaluatorMax: 20,
    evaluatorMemoryBytesMax: 8 * 2 ** 30,
    attributeTimeoutMs: 600_000,
    repositoryBytesMax: 4 * 2 ** 30,
    evalJobsCommand: null,
    sshCommand: "ssh",
    sshKnownHostsFile: null,
  });
  const changed = read({
    GRADIENT_MAX_CONCURRENT_EVALUATIONS: "2",
    GRADIENT_WORKER_EVAL_WORKERS: "3",
    GRADIENT_MAX_EVALUATIONS_PER_WORKER: "0",
    GRADIENT_WORKER_EVAL_ATTRIBUTE_TIMEOUT_SECS: "4",
    GRADIENT_WORKER_MAX_REPOSITORY_BYTES: "5000",
    GRADIENT_BINPATH_NIX_EVAL_JOBS: "nix-eval-jobs",
    GRADIENT_BINPATH_SSH: "/opt/ssh",
    GRADIENT_WORKER_SSH_KNOWN_HOSTS_FILE: "/etc/ssh/known",
  });
  expect(changed.config).toMatchObject({
    evaluationsMax: 2,
    evaluatorsMax: 3,
    evaluationsPerEvaluatorMax: 0,
    attributeTimeoutMs: 4_000,
    repositoryBytesMax: 5_000,
    evalJobsCommand: "nix-eval-jobs",
    sshCommand: "/opt/ssh",
    sshKnownHostsFile: "/etc/ssh/known",
  });
});
