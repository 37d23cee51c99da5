import { readFile, symlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DaemonConnectionError, DaemonError } from "#core/nix/daemon/errors.ts";
import { buildLogLine } from "#core/nix/daemon/events.ts";
import { defaultDaemonOptions } from "#core/nix/daemon/options.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { DaemonPool, DaemonPoolClosedError, DaemonPoolTimeoutError } from "#worker/daemon/pool.ts";
import { basicDerivation, instantiate, storePath } from "../support/derivations.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { killProcesses, processesWith } from "../support/processes.ts";

const nix = nixAvailable();
const NOWHERE = storePath("/nix/store/0123456789abcdfghijklmnpqrsvwxyz-nowhere");

describe.skipIf(!nix.ok)(`the pool of connections (${nix.ok ? nix.version : nix.reason})`, () => {
  let daemon: NixDaemon;
  beforeAll(async () => {
    daemon = await withNixDaemon();
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
  });

  const withTimeout = (seconds: string) => ({
    ...defaultDaemonOptions,
    overrides: new Map([["timeout", seconds]]),
  });

  test("a connection is used again, also after the daemon refused something", async () => {
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 2 });
    const seen = new Set<DaemonConnection>();
    await pool.use(async (connection) => void seen.add(connection));
    const refused = pool.use(async (connection) => {
      seen.add(connection);
      await connection.ensurePath(NOWHERE);
    });
    await expect(refused).rejects.toThrow(DaemonError);
    await pool.use(async (connection) => {
      seen.add(connection);
      expect(await connection.isValidPath(NOWHERE)).toBe(false);
    });
    expect(seen.size).toBe(1);
    expect(pool.counts).toEqual({ idle: 1, borrowed: 0, waiting: 0 });
  });

  test("a connection with an unfinished operation is never used again", async () => {
    const path = await instantiate(daemon, `mk "unfinished" "echo" {}`);
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 1 });
    let first: DaemonConnection | undefined;
    await pool.use(async (connection) => {
      first = connection;
      const info = await connection.queryPathInfo(path);
      if (info) for await (const _chunk of connection.narFromPath(info)) break;
    });
    await pool.use(async (connection) => {
      expect(connection).not.toBe(first);
      expect(await connection.isValidPath(path)).toBe(true);
    });

    // Not even when the task forgot to wait for it.
    let forgotten: Promise<unknown> = Promise.resolve();
    await pool.use(async (connection) => {
      first = connection;
      forgotten = connection.isValidPath(path).catch((error: unknown) => error);
    });
    expect(await forgotten).toBeInstanceOf(DaemonConnectionError);
    await pool.use(async (connection) => expect(connection).not.toBe(first));
  });

  test("no more connections than allowed are open", async () => {
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 2 });
    let open = 0;
    let most = 0;
    const task = async (connection: DaemonConnection) => {
      most = Math.max(most, ++open);
      await connection.isValidPath(NOWHERE);
      // A connection takes its time to open on a busy machine.
      await expect.poll(() => most).toBeGreaterThanOrEqual(2);
      await sleep(5);
      open--;
    };
    await Promise.all([1, 2, 3, 4, 5, 6].map(() => pool.use(task)));
    expect(most).toBe(2);
  });

  test("callers are served in the order they came", async () => {
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 1 });
    const order: number[] = [];
    await Promise.all([0, 1, 2, 3].map((index) => pool.use(async () => void order.push(index))));
    expect(order).toEqual([0, 1, 2, 3]);
  });

  test("who waits too long, gives up or comes after the end is told so", async () => {
    const pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 1, waitMsMax: 30 });
    let finish = () => {};
    const busy = pool.use(() => new Promise<void>((resolve) => (finish = resolve)));
    await sleep(10);
    await expect(pool.use(async () => {}, { signal: AbortSignal.timeout(5) })).rejects.toThrow(/timeout/);
    await expect(pool.use(async () => {})).rejects.toThrow(DaemonPoolTimeoutError);

    const closed = pool.close();
    await expect(pool.use(async () => {})).rejects.toThrow(DaemonPoolClosedError);
    finish();
    await Promise.all([busy, closed]);
    expect(pool.counts).toEqual({ idle: 0, borrowed: 0, waiting: 0 });
  });

  test("aborting a borrower ends its build and rejects with the reason", async () => {
    const drvPath = await instantiate(daemon, `mk "pool-abort" "echo started; sleep 44.377" {}`);
    const derivation = await basicDerivation(daemon, drvPath);
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 1 });
    const abort = new AbortController();
    const onEvent = (event: Parameters<typeof buildLogLine>[0]) => {
      if (buildLogLine(event) === "started") abort.abort(new Error("stopped"));
    };
    const building = pool.use((connection) => connection.buildDerivation(drvPath, derivation, { onEvent }), {
      signal: abort.signal,
    });
    await expect(building).rejects.toThrow("stopped");
    await expect.poll(() => processesWith("sleep 44.377"), { timeout: 20_000 }).toEqual([]);
    expect(await pool.use((connection) => connection.isValidPath(drvPath))).toBe(true);
  });

  test("settings of one borrower never reach another", async () => {
    await using pool = new DaemonPool({ socketPath: daemon.socketPath, maxConnections: 1 });
    const build = async (name: string, settings = defaultDaemonOptions) => {
      const drvPath = await instantiate(daemon, `mk "${name}" "sleep 1.5; echo > $out" {}`);
      const derivation = await basicDerivation(daemon, drvPath);
      return await pool.use((connection) => connection.buildDerivation(drvPath, derivation), { settings });
    };
    expect(await build("limited", withTimeout("1"))).toMatchObject({ status: "timed-out" });
    expect(await build("unlimited")).toMatchObject({ status: "built" });
    expect(await build("limited-again", withTimeout("1"))).toMatchObject({ status: "timed-out" });
    expect(pool.counts.idle).toBe(1);
  });

  test("a connection that died while it waited is replaced without anyone noticing", async () => {
    await using own = await withNixDaemon();
    await using pool = new DaemonPool({ socketPath: own.socketPath, maxConnections: 1 });
    const used: DaemonConnection[] = [];
    await pool.use(async (connection) => {
      used.push(connection);
      // An answer comes from a store that is laid out: to kill the process of the daemon's start, too, spoils nothing.
      expect(await connection.isValidPath(NOWHERE)).toBe(false);
    });
    killProcesses(await connectionProcesses(own.pid));
    await pool.use(async (connection) => {
      used.push(connection);
      expect(await connection.isValidPath(NOWHERE)).toBe(false);
    });
    expect(used[1]).not.toBe(used[0]);
  });

  test("a daemon that dies during a build is a connection error, and so is every use after it", async () => {
    await using own = await withNixDaemon();
    const drvPath = await instantiate(own, `mk "dies" "echo started; sleep 43.119" {}`);
    const derivation = await basicDerivation(own, drvPath);
    await using pool = new DaemonPool({ socketPath: own.socketPath, maxConnections: 1 });
    const building = pool.use((connection) =>
      connection.buildDerivation(drvPath, derivation, {
        onEvent: async (event) => {
          if (buildLogLine(event) === "started") await own.kill();
        },
      }),
    );
    await expect(building).rejects.toThrow(DaemonConnectionError);
    await expect(pool.use(async () => {})).rejects.toThrow(DaemonConnectionError);
    expect(await processesWith("sleep 43.119")).toEqual([]);
  });

  test("unused connections are closed, and old ones are not kept", async () => {
    const clock = new ManualClock();
    const options = { socketPath: daemon.socketPath, maxConnections: 2, clock };
    await using idle = new DaemonPool({ ...options, idleMsMax: 20 });
    await idle.use(async () => {});
    await clock.advance(19);
    expect(idle.counts.idle).toBe(1);
    await clock.advance(1);
    expect(idle.counts.idle).toBe(0);

    await using aging = new DaemonPool({ ...options, ageMsMax: 5 });
    await aging.use(() => clock.advance(5));
    expect(aging.counts.idle).toBe(1);
    await aging.use(() => clock.advance(1));
    expect(aging.counts.idle).toBe(0);
  });

  test("roots keep paths from collection: links while they are there, temporary ones with the connection", async () => {
    await using own = await withNixDaemon();
    const build = async (name: string) =>
      storePath(
        await nixOutput(["nix-store", "--realise", await instantiate(own, `mk "${name}" "echo > $out" {}`)], own.env),
      );
    const [linked, temporary, dead] = [await build("linked"), await build("temporary"), await build("dead")];
    const link = join(own.folder, "link");
    await symlink(linked, link);

    const holder = await DaemonConnection.open(own.socketPath);
    await holder.addTempRoot(temporary);
    using connection = await DaemonConnection.open(own.socketPath);
    await connection.addIndirectRoot(link);
    expect(await connection.findRoots()).toContainEqual({ link, target: linked });

    const first = await connection.collectGarbage({ action: "deleteDead" });
    expect(first.paths).toContain(dead);
    expect(first.freedBytes).toBeGreaterThan(0);
    const paths = [linked, temporary, dead];
    expect(await connection.queryValidPaths(paths)).toEqual(new Set([linked, temporary]));

    holder.close();
    using later = await DaemonConnection.open(own.socketPath);
    const afterCollection = async () => {
      await later.collectGarbage({ action: "deleteDead" });
      return await later.queryValidPaths(paths);
    };
    // The daemon's process for the holder ends in its own time.
    await expect.poll(afterCollection, { timeout: 20_000 }).toEqual(new Set([linked]));
  });

  test("the daemon makes roots itself where it can, and it is said where it cannot", async () => {
    const path = await instantiate(daemon, `mk "permanent" "echo > $out" {}`);
    using connection = await DaemonConnection.open(daemon.socketPath);
    const link = join(daemon.folder, "permanent-root");
    if (connection.greeting.minor < 36) {
      await expect(connection.addPermRoot(path, link)).rejects.toThrow(/indirect/);
      expect(connection.usable).toBe(true);
    } else {
      await connection.addPermRoot(path, link);
      expect(await connection.findRoots()).toContainEqual({ link, target: path });
    }
  });
});

/** The daemon's process for each connection: its children. */
async function connectionProcesses(daemonPid: number): Promise<number[]> {
  const children = await readFile(`/proc/${daemonPid}/task/${daemonPid}/children`, "utf8");
  return children.split(" ").filter(Boolean).map(Number);
}
