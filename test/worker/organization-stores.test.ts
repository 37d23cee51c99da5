import { randomUUID } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { streamOf } from "#core/lib/streams.ts";
import { sha256 } from "#core/nix/hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { executeBuild } from "#worker/build/execute.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { DaemonPool } from "#worker/daemon/pool.ts";
import type { DaemonStore } from "#worker/daemon/store-url.ts";
import { endLeftDaemons } from "#worker/store/left-daemon.ts";
import {
  OrganizationStores,
  type OrganizationStoresOptions,
  STORES_FOLDER,
  type WorkStore,
} from "#worker/store/organization-stores.ts";
import { PrivateDaemon, PrivateDaemonError } from "#worker/store/private-daemon.ts";
import { privateDaemonSettings } from "#worker/store/private-daemon-settings.ts";
import { instantiate, outputPath, readDerivation } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, withNixDaemon } from "../support/nix.ts";
import { pathWithNix } from "../support/nix-path.ts";
import { recordingLogger } from "../support/recording-logger.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { environmentOf, MemoryLink, MemoryStore, requestFor } from "./build-support.ts";

const nix = nixAvailable();
const [A, B] = [randomUUID(), randomUUID()] as const;

describe.skipIf(!nix.ok)(`a worker of several organizations (${nix.ok ? nix.version : nix.reason})`, () => {
  /** The machine's daemon. */
  let machine: NixDaemon;
  beforeAll(async () => {
    machine = await withNixDaemon();
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  const daemonOptions = (): OrganizationStoresOptions["daemon"] => ({
    nixCommand: "nix",
    variables: { PATH: pathWithNix(), NIX_CONF_DIR: machine.env.NIX_CONF_DIR ?? "" },
    settings: privateDaemonSettings({ evaluatorUserName: null, minFreeBytes: 0 }),
  });

  function workStore(store: DaemonStore): WorkStore {
    const pool = new DaemonPool({ socketPath: store.socketPath, maxConnections: 4 });
    const builds = environmentOf(machine, { pool, storeRoot: store.root });
    return { pool, builds, daemonStore: store, nixRemote: `unix://${store.socketPath}?root=${store.root}` };
  }

  async function openStores(overrides: Partial<OrganizationStoresOptions> = {}) {
    const stack = new AsyncDisposableStack();
    const folder = stack.use(await withTemporaryFolder());
    const log = recordingLogger();
    const dataDir = join(folder.path, "worker");
    const stores = stack.use(
      new OrganizationStores({
        machine: workStore(machine),
        shared: false,
        dataDir: overrides.dataDir ?? folder.path,
        daemon: daemonOptions(),
        groupOf: async () => null,
        open: async (store) => workStore(store),
        clock: systemClock,
        log,
        ...overrides,
      }),
    );
    return { stores, dataDir, folder: folder.path, log, [Symbol.asyncDispose]: () => stack.disposeAsync() };
  }

  const rootOf = async (stores: OrganizationStores, organization: string) =>
    await stores.use(organization, async ({ daemonStore }) => daemonStore.root);

  async function build(stores: OrganizationStores, organization: string, drvPath: StorePath, server: MemoryStore) {
    const request = await requestFor(machine, drvPath);
    return await stores.use(organization, ({ builds }) => executeBuild(request, new MemoryLink(server), builds));
  }

  test("what one organization puts into an output path never reaches the other's builds", async () => {
    await using opened = await openStores();
    const { stores } = opened;
    stores.serve([A, B]);
    const drvPath = await instantiate(machine, `mk "wanted" "echo good > $out" {}`);
    const output = outputPath(await readDerivation(machine, drvPath));
    await stores.use(A, ({ daemonStore }) => poison(daemonStore, output));

    const [serverA, serverB] = [new MemoryStore(), new MemoryStore()];
    const builtA = await build(stores, A, drvPath, serverA);
    const builtB = await build(stores, B, drvPath, serverB);

    // A trusted user of a daemon can do this to himself, and to nobody else.
    expect(builtA).toMatchObject({ status: "already_valid", failure: null });
    expect(textOf(serverA, output)).toContain("poison");
    expect(builtB).toMatchObject({ status: "built", failure: null });
    expect(textOf(serverB, output)).toContain("good");
    expect(textOf(serverB, output)).not.toContain("poison");
    using connection = await DaemonConnection.open(machine.socketPath);
    expect(await connection.isValidPath(output), "nothing of it is in the machine's store").toBe(false);
  });

  test("one name with other contents is another path in each store, and neither has the other's", async () => {
    await using opened = await openStores();
    const { stores } = opened;
    stores.serve([A, B]);
    const drvs = await Promise.all(
      ["one", "two"].map((text) => instantiate(machine, `mk "same-name" "echo ${text} > $out" {}`)),
    );
    const [outA, outB] = await Promise.all(drvs.map(async (drv) => outputPath(await readDerivation(machine, drv))));
    const servers = [new MemoryStore(), new MemoryStore()] as const;

    await Promise.all([
      build(stores, A, drvs[0] as StorePath, servers[0]),
      build(stores, B, drvs[1] as StorePath, servers[1]),
    ]);

    expect([...servers[0].nars.keys()]).toEqual([outA]);
    expect([...servers[1].nars.keys()]).toEqual([outB]);
    const valid = async (organization: string) =>
      await stores.use(organization, ({ pool }) =>
        pool.use((connection) => connection.queryValidPaths([outA, outB] as StorePath[])),
      );
    expect([...(await valid(A))]).toEqual([outA]);
    expect([...(await valid(B))]).toEqual([outB]);
  });

  test("a worker of one organization works in the machine's store, which no other one gets after it", async () => {
    await using opened = await openStores();
    const { stores, log } = opened;
    stores.serve([A]);
    expect(await rootOf(stores, A)).toBe(machine.root);
    // A second one comes, and the first leaves.
    stores.serve([A, B]);
    const own = join(opened.folder, STORES_FOLDER);
    expect(await rootOf(stores, A)).toBe(join(own, A, "root"));
    expect(await rootOf(stores, B)).toBe(join(own, B, "root"));
    stores.serve([B]);
    expect(await rootOf(stores, B)).toBe(join(own, B, "root"));
    expect(log.lines.filter(({ level }) => level === "warn")).toMatchObject([
      { fields: { organization: B, before: A } },
    ]);

    // After a restart too.
    await using again = await openStores({ dataDir: opened.folder });
    again.stores.serve([B]);
    expect(await rootOf(again.stores, B)).toBe(join(own, B, "root"));
    again.stores.serve([A]);
    expect(await rootOf(again.stores, A)).toBe(machine.root);
  });

  test("an operator who shares the store gives all organizations the machine's", async () => {
    await using opened = await openStores({ shared: true });
    opened.stores.serve([A, B]);
    expect(await rootOf(opened.stores, A)).toBe(machine.root);
    expect(await rootOf(opened.stores, B)).toBe(machine.root);
  });

  test("a daemon begins with work, ends when idle and with the worker, and is begun again when it died", async () => {
    await using opened = await openStores({ idleMsMax: 200 });
    const { stores, folder } = opened;
    stores.serve([A, B]);
    const [first] = await Promise.all([daemonPid(stores, folder), daemonPid(stores, folder)]);
    await expect.poll(() => isRunning(first), { timeout: 20_000 }).toBe(false);

    const second = await daemonPid(stores, folder);
    expect(second).not.toBe(first);
    process.kill(second, "SIGKILL");
    // Connections that were open live on; who needs a new one in that moment is told.
    const next = () => daemonPid(stores, folder).catch(() => second);
    await expect.poll(next, { timeout: 20_000 }).not.toBe(second);
    const third = await daemonPid(stores, folder);
    expect(await isRunning(third)).toBe(true);

    await stores[Symbol.asyncDispose]();
    expect(await isRunning(third)).toBe(false);
  });

  test("a daemon that a killed worker left behind is ended, and no process that got its id later", async () => {
    await using folder = await withTemporaryFolder();
    const own = join(folder.path, STORES_FOLDER, A);
    const left = await PrivateDaemon.start({ ...daemonOptions(), folder: own, group: null, clock: systemClock });
    const noted = await readFile(join(own, "daemon.stat"), "utf8");
    const pid = Number.parseInt(noted, 10);
    expect(await isRunning(pid)).toBe(true);
    expect((await stat(own)).mode & 0o077, "nobody else reaches its socket").toBe(0);

    await endLeftDaemons(join(folder.path, STORES_FOLDER), systemClock);
    await expect.poll(() => left.running).toBe(false);

    // The same id, another start: this test's own process.
    const self = await readFile("/proc/self/stat", "utf8");
    const fields = self.slice(self.lastIndexOf(")") + 2).split(" ");
    fields[19] = String(Number(fields[19]) - 1);
    await writeFile(join(own, "daemon.stat"), `${process.pid} (node) ${fields.join(" ")}`);
    await endLeftDaemons(join(folder.path, STORES_FOLDER), systemClock);
    await expect(stat(join(own, "daemon.stat"))).rejects.toThrow("ENOENT");
  });

  test("a daemon that does not start is an error with its own words", async () => {
    const broken = { ...daemonOptions(), settings: { "no-such-folder": "x" }, nixCommand: "/no/such/nix" };
    await using opened = await openStores({ daemon: broken });
    opened.stores.serve([A, B]);
    const failing = opened.stores.use(A, async () => "never");
    await expect(failing).rejects.toThrow(PrivateDaemonError);
    await expect(failing).rejects.toThrow(/no\/such\/nix/);
  });

  async function daemonPid(stores: OrganizationStores, dataDir: string): Promise<number> {
    return await stores.use(A, async ({ pool }) => {
      await pool.use(async () => {});
      return Number.parseInt(await readFile(join(dataDir, STORES_FOLDER, A, "daemon.stat"), "utf8"), 10);
    });
  }
});

/** As a trusted user of the daemon may: any bytes as any path. */
async function poison({ socketPath }: DaemonStore, path: StorePath): Promise<void> {
  const words = ["nix-archive-1", "(", "type", "regular", "contents", "poison", ")"];
  const parts = words.map((word) => {
    const bytes = Buffer.alloc(8 + Math.ceil(word.length / 8) * 8);
    bytes.writeUInt32LE(word.length);
    bytes.write(word, 8);
    return bytes;
  });
  const nar = new Uint8Array(Buffer.concat(parts));
  const narHash = { algorithm: "sha256", digest: await sha256(nar) } as const;
  using connection = await DaemonConnection.open(socketPath);
  const info = { path, narHash, narSize: nar.length, references: [] };
  await connection.addToStoreNar(info, streamOf(nar), { checkSignatures: false });
}

/** The NAR that was uploaded. */
function textOf(server: MemoryStore, path: StorePath): string {
  return zstdDecompressSync(server.nars.get(path)?.bytes ?? new Uint8Array()).toString("latin1");
}

async function isRunning(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text !== "" && !/\) [ZX] /.test(text);
}
