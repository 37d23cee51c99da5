import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { SERVICE_OPTIONS } from "#scripts/node-options.ts";
import { withDatabase } from "#test/support/database.ts";
import { withFakeDaemon } from "#test/support/fake-daemon.ts";
import { serviceManagerLack, withUnit } from "#test/support/service-manager.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

const ROOT = join(import.meta.dirname, "../..");
/** O_CLOEXEC. */
const CLOSED_FOR_CHILDREN = 0o2000000;
const WAIT = { timeout: 30_000 };
const lack = serviceManagerLack();
const withoutCommand = spawnSync("systemd-notify", ["--version"]).status !== 0;

function program(main: string): string[] {
  return [process.execPath, ...SERVICE_OPTIONS, join(ROOT, main)];
}

function environment(settings: Record<string, string>): Record<string, string> {
  return { PATH: process.env.PATH ?? "", NODE_COMPILE_CACHE: `${ROOT}/node_modules/.cache/compiled`, ...settings };
}

test.skipIf(lack)("a server says when it really listens, that it lives, and that it stops, itself", async () => {
  await using folder = await withTemporaryFolder();
  await using database = await withDatabase();
  const secret = join(folder.path, "secret");
  await writeFile(secret, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
  await using unit = await withUnit(program("runtime/node/main.ts"), {
    socket: join(folder.path, "notify"),
    way: "descriptor",
    watchdogMs: 3_000,
    env: environment({
      GRADIENT_BASE_PATH: join(folder.path, "base"),
      GRADIENT_PORT: "0",
      GRADIENT_DATABASE_URL: database.url,
      GRADIENT_JWT_SECRET_FILE: secret,
      GRADIENT_CRYPT_SECRET_FILE: secret,
    }),
  });

  await expect.poll(() => unit.state().READY, WAIT).toBe("1");
  const url = /serves at (\S+);/.exec(unit.state().STATUS ?? "")?.[1];
  expect((await fetch(`${url}/api/v1/health`)).status).toBe(200);
  expect(unit.told[0]?.text).toContain("STATUS=bringing the database up to date\nEXTEND_TIMEOUT_USEC=60000000");
  const lives = () => unit.told.filter(({ text }) => text.includes("WATCHDOG=1")).length;
  await expect.poll(lives, WAIT).toBeGreaterThan(2);

  const [, flags] = /^flags:\s+([0-7]+)$/m.exec(await readFile(`/proc/${unit.pid}/fdinfo/3`, "utf8")) ?? [];
  expect(Number.parseInt(flags ?? "", 8) & CLOSED_FOR_CHILDREN).not.toBe(0);
  process.kill(unit.pid, "SIGTERM");
  await expect.poll(() => unit.state().STOPPING, WAIT).toBe("1");
  expect(new Set(unit.told.map(({ sender }) => sender))).toEqual(new Set([unit.pid]));
});

test.skipIf(lack !== null || withoutCommand).each([{ socket: "a path" }, { socket: "an abstract name" }])(
  "by systemd-notify a worker says that it is up though its server is away: $socket",
  async ({ socket }) => {
    await using folder = await withTemporaryFolder();
    await using daemon = await withFakeDaemon();
    await using unit = await withUnit(program("worker/main.ts"), {
      socket: socket === "a path" ? join(folder.path, "notify") : `@gradient-test-${randomUUID()}`,
      way: "socket",
      watchdogMs: 3_000,
      env: environment({
        NIX_REMOTE: `unix://${daemon.socketPath}`,
        GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:9/proto",
        GRADIENT_WORKER_DATA_DIR: join(folder.path, "worker"),
        GRADIENT_WORKER_GCROOTS_DIR: "",
        GRADIENT_WORKER_CAPABILITY_BUILD: "true",
      }),
    });

    await expect
      .poll(() => unit.state(), WAIT)
      .toMatchObject({
        READY: "1",
        STATUS: "no server is connected, trying again; nothing runs",
        WATCHDOG: "1",
      });
    process.kill(unit.pid, "SIGTERM");
    await expect
      .poll(() => unit.state(), WAIT)
      .toMatchObject({
        STOPPING: "1",
        STATUS: "stopping when what runs is done; no server is connected, trying again; nothing runs",
      });
  },
);
