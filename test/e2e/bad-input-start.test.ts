import { randomUUID } from "node:crypto";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { type TemporaryFolder, withTemporaryFolder } from "../support/temporary-folder.ts";
import { Api } from "./api.ts";
import { type Service, startService } from "./process.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;
const SERVER = "runtime/node/main.ts";
const WORKER = "worker/main.ts";
const DAY = 86_400_000;

type Environment = Readonly<Record<string, string>>;

let folder: TemporaryFolder;

beforeAll(async () => {
  folder = await withTemporaryFolder();
});

afterAll(async () => {
  await folder[Symbol.asyncDispose]();
});

/** Starts a program that cannot start. Answers its last words and its exit code. */
async function startInVain(script: string, env: Environment): Promise<{ code: number | null; words: string }> {
  await using service = startService(script, env);
  const code = await service.ended;
  return { code, words: service.output() };
}

async function ready(env: Environment): Promise<{ service: Service; url: string }> {
  const service = startService(SERVER, { GRADIENT_PORT: "0", ...env });
  await service.waitFor("the server is ready");
  const url = /"url":"([^"]+)"/.exec(service.output())?.[1];
  if (!url) throw new Error(service.output());
  return { service, url };
}

describe("a server that cannot start says why and ends with 1", () => {
  test("a port in use", async () => {
    await using blocker = await withBlockedPort();
    const env = { GRADIENT_BASE_PATH: join(folder.path, "port"), GRADIENT_PORT: String(blocker.port) };

    expect(await startInVain(SERVER, env)).toEqual({
      code: 1,
      words: expect.stringMatching(
        new RegExp(
          `^gradient-server: 127\\.0\\.0\\.1:${blocker.port} is in use by another program: ` +
            "stop it, or set GRADIENT_PORT to another port \\(several servers share a port when all of them have " +
            "GRADIENT_REUSE_PORT=true\\)$",
          "m",
        ),
      ),
    });
  });

  test("a data folder that cannot be written", async () => {
    const file = join(folder.path, "a-file");
    await writeFile(file, "");
    const env = { GRADIENT_BASE_PATH: join(file, "data"), GRADIENT_PORT: "0" };

    const { code, words } = await startInVain(SERVER, env);
    expect(code).toBe(1);
    expect(words).toContain(`gradient-server: the data folder ${join(file, "data")} cannot be used: ENOTDIR`);
    expect(words).toContain("Set GRADIENT_BASE_PATH to a folder to write to");
  });

  test("a data folder that another server has, which goes on", async () => {
    const path = join(folder.path, "shared");
    const first = await ready({ GRADIENT_BASE_PATH: path });
    await using _ = first.service;

    const { code, words } = await startInVain(SERVER, { GRADIENT_BASE_PATH: path, GRADIENT_PORT: "0" });

    expect(code).toBe(1);
    expect(words).toContain(
      `gradient-server: another server is running on ${path}: ` +
        "stop it first, or set GRADIENT_BASE_PATH to another folder",
    );
    expect((await fetch(`${first.url}/api/v1/health`)).status).toBe(200);
  });

  test("a configuration with several mistakes, all of them at once", async () => {
    const { code, words } = await startInVain(SERVER, {
      GRADIENT_BASE_PATH: join(folder.path, "mistakes"),
      GRADIENT_PORT: "99999",
      GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS: "-1",
      GRADIENT_CREATE_ORG: "nobody",
    });

    expect(code).toBe(1);
    expect(words).toBe(
      "gradient-server: the configuration cannot be used:\n" +
        "  - GRADIENT_PORT=99999: must be a whole number from 0 to 65535\n" +
        "  - GRADIENT_CREATE_ORG=nobody: must be one of none, superusers, everyone\n" +
        `  - GRADIENT_WORKER_HEARTBEAT_TIMEOUT_SECS=-1: must be a whole number from 0 to ${(30 * DAY) / 1000}\n`,
    );
  });
});

describe("a server that can start", () => {
  test("warns about names that it does not know, with the one that was meant", async () => {
    const { service } = await ready({
      GRADIENT_BASE_PATH: join(folder.path, "names"),
      GRADIENT_DISCOVERABEL: "true",
      GRADIENT_SOMETHING_ELSE_ENTIRELY: "1",
    });
    await using _ = service;

    expect(service.output()).toContain(
      "GRADIENT_DISCOVERABEL is not an option of this server; did you mean GRADIENT_DISCOVERABLE?",
    );
    expect(service.output()).toContain('GRADIENT_SOMETHING_ELSE_ENTIRELY is not an option of this server"');
  });

  test("refuses workers' upgrades with 404 where none may connect, and plain requests are not upgrades", async () => {
    const { service, url } = await ready({
      GRADIENT_BASE_PATH: join(folder.path, "hidden"),
      GRADIENT_DISCOVERABLE: "false",
    });
    await using _ = service;

    expect((await upgrade(`${url}/proto`)).status).toBe(404);
    expect((await upgrade(`${url}/elsewhere`)).status).toBe(404);
    expect((await upgrade(`${url}/api/v1/health`, "h2c")).status).toBe(200);
    expect((await fetch(`${url}/proto`)).status).toBe(404);
  });

  test("refuses the worker that is one too many with 503 and when to come back, until there is room", async () => {
    const { service, url } = await ready({
      GRADIENT_BASE_PATH: join(folder.path, "full"),
      GRADIENT_MAX_PROTO_CONNECTIONS: "1",
    });
    await using _ = service;

    const first = await upgrade(`${url}/proto`);
    expect(first.status).toBe(101);
    expect(await upgrade(`${url}/proto`)).toMatchObject({ status: 503, retryAfter: "10" });
    first.close();
    await expect.poll(async () => (await upgrade(`${url}/proto`)).status).toBe(101);
  });
});

describe.skipIf(!nix.ok)(`a worker${reason}`, () => {
  let daemon: NixDaemon;

  beforeAll(async () => {
    daemon = await withNixDaemon();
  });

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
  });

  function settings(name: string): Environment {
    return {
      NIX_REMOTE: daemon.storeUrl,
      NIX_CONF_DIR: daemon.env.NIX_CONF_DIR ?? "",
      GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:1/proto",
      GRADIENT_WORKER_DATA_DIR: join(folder.path, name),
      GRADIENT_WORKER_ID: randomUUID(),
      GRADIENT_WORKER_PEERS: "",
      GRADIENT_WORKER_GCROOTS_DIR: join(folder.path, `${name}-gcroots`),
      GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    };
  }

  test("without Nix does not start, and says where it can be named", async () => {
    const path = join(folder.path, "bin-without-nix");
    await mkdir(path);
    await symlink(process.execPath, join(path, "node"));

    const { code, words } = await startInVain(WORKER, { ...settings("no-nix"), PATH: path });

    expect(code).toBe(1);
    expect(words).toContain(
      "gradient-worker cannot start: nix does not start: spawn nix ENOENT: " +
        "install Nix 2.8 or later, or name its command in GRADIENT_BINPATH_NIX",
    );
  });

  test("without a daemon does not start, and names its socket", async () => {
    const socket = join(folder.path, "no-daemon.sock");
    const { code, words } = await startInVain(WORKER, { ...settings("no-daemon"), NIX_REMOTE: `unix://${socket}` });

    expect(code).toBe(1);
    expect(words).toContain(
      `gradient-worker cannot start: there is no socket at ${socket}: ` +
        "start the nix-daemon, or set NIX_REMOTE=unix://SOCKET to where it listens",
    );
  });

  test("with a data folder that cannot be written does not start, and says what to set", async () => {
    const file = join(folder.path, "another-file");
    await writeFile(file, "");
    const env = { ...settings("unwritable"), GRADIENT_WORKER_DATA_DIR: join(file, "data") };
    const { code, words } = await startInVain(WORKER, env);

    expect(code).toBe(1);
    expect(words).toContain(`gradient-worker cannot start: ${join(file, "data")} cannot be used (ENOTDIR`);
    expect(words).toContain("make it writable for this user, or name another folder in GRADIENT_WORKER_DATA_DIR");
  });

  test("warns about names that it does not know, and about tokens that it cannot use", async () => {
    const peers = join(folder.path, "bad-peers");
    await writeFile(peers, `no colon\n${randomUUID()}:c2hvcnQ=\n`);
    await chmod(peers, 0o600);
    const { service, url } = await ready({ GRADIENT_BASE_PATH: join(folder.path, "for-bad-peers") });
    await using _ = service;
    const { id, worker } = await register(url);
    await using started = startService(WORKER, {
      ...settings("bad-peers-data"),
      GRADIENT_WORKER_ID: id,
      GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/proto`,
      GRADIENT_WORKER_PEERS_FILE: peers,
      GRADIENT_WORKER_CAPABILITY_BUIDL: "true",
    });

    await started.waitFor("the server refused this worker");

    expect(started.output()).toContain(
      "GRADIENT_WORKER_CAPABILITY_BUIDL is not an option of this worker; " +
        "did you mean GRADIENT_WORKER_CAPABILITY_BUILD?",
    );
    expect(started.output()).toContain(`${peers}, line 1 is skipped: it is not of the form peer_id:token`);
    expect(started.output()).toContain(
      `${peers}, line 2 is skipped: its token is not base64 of 48 bytes (64 characters)`,
    );
    expect(started.output()).toContain(
      `no valid token in the worker's peers file (${worker.peer_id}: no token provided)`,
    );
    expect(started.output()).not.toContain("c2hvcnQ=");
  });

  test("with a token of another day is refused by name, and connects once the file has the right one", async () => {
    const { service, url } = await ready({ GRADIENT_BASE_PATH: join(folder.path, "for-wrong-token") });
    await using _ = service;
    const { id, worker } = await register(url);
    const peers = join(folder.path, "peers");
    const wrong = Buffer.alloc(48, 7).toString("base64");
    await writeFile(peers, `${worker.peer_id}:${wrong}\n`);
    await using started = startService(WORKER, {
      ...settings("wrong-token"),
      GRADIENT_WORKER_ID: id,
      GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/proto`,
      GRADIENT_WORKER_PEERS_FILE: peers,
    });

    await started.waitFor(`no valid token in the worker's peers file (${worker.peer_id}: invalid token)`);
    await writeFile(peers, `${worker.peer_id}:${worker.token}\n`);
    await started.waitFor("connected to the server");

    for (const { output } of [service, started]) {
      expect(output()).not.toContain(wrong);
      expect(output()).not.toContain(worker.token);
    }
    expect(await started.stop()).toBe(0);
  });

  test("that a server does not let in tells each way apart, and keeps trying", async () => {
    const { service, url } = await ready({
      GRADIENT_BASE_PATH: join(folder.path, "for-refusals"),
      GRADIENT_MAX_PROTO_CONNECTIONS: "1",
    });
    await using _ = service;
    const id = randomUUID();
    const env = {
      ...settings("refused"),
      GRADIENT_WORKER_ID: id,
      GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/proto`,
    };
    const blocker = await upgrade(`${url}/proto`);
    await using started = startService(WORKER, env);

    await started.waitFor("answered 503: it has no place for another worker now");
    blocker.close();
    await started.waitFor(`no organization has registered the worker ${id}: register it, then`);

    await using lost = startService(WORKER, {
      ...settings("lost"),
      GRADIENT_WORKER_SERVER_URL: `${url.replace("http", "ws")}/prot`,
    });
    await lost.waitFor("answered 404: no worker may connect here (is the path /proto right, and is the server");
    await using alone = startService(WORKER, settings("alone"));
    await alone.waitFor("the server is not reachable; trying again");
    expect(alone.output()).toContain("ws://127.0.0.1:1/proto: connect ECONNREFUSED 127.0.0.1:1");
  });
});

/** Somebody who registers a worker of a new id. */
async function register(url: string): Promise<{ id: string; worker: { peer_id: string; token: string } }> {
  const api = new Api(url);
  await api.signUp("ada");
  await api.request("PUT", "/orgs", { name: "acme", display_name: "Acme", description: "" });
  const id = randomUUID();
  return { id, worker: await api.request("POST", "/orgs/acme/workers", { worker_id: id }) };
}

interface Upgrade {
  readonly status: number;
  readonly retryAfter: string | undefined;
  readonly close: () => void;
}

/** Asks for an upgrade, as a worker does. */
function upgrade(url: string, protocol = "websocket"): Promise<Upgrade> {
  return new Promise((resolve, reject) => {
    const headers = {
      Connection: "Upgrade",
      Upgrade: protocol,
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": Buffer.alloc(16).toString("base64"),
    };
    const asked = request(url, { headers });
    asked.on("upgrade", (response, socket) => {
      resolve({ status: response.statusCode ?? 0, retryAfter: undefined, close: () => socket.destroy() });
    });
    asked.on("response", (response) => {
      response.resume();
      const close = () => response.destroy();
      resolve({ status: response.statusCode ?? 0, retryAfter: response.headers["retry-after"], close });
    });
    asked.on("error", reject).end();
  });
}

async function withBlockedPort(): Promise<AsyncDisposable & { port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}
