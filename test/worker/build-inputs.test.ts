import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { type BuildRequest, executeBuild } from "#worker/build/execute.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { DaemonPool } from "#worker/daemon/pool.ts";
import { AttemptEndedError, type FetchedNar } from "#worker/link.ts";
import { instantiate, readDerivation } from "../support/derivations.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { environmentOf, MemoryLink, MemoryStore, publish, requestFor } from "./build-support.ts";

const nix = nixAvailable();
const MIB = 1024 * 1024;

describe.skipIf(!nix.ok)(`inputs of a build (${nix.ok ? nix.version : nix.reason})`, () => {
  let source: NixDaemon;
  let worker: NixDaemon;
  beforeAll(async () => {
    [source, worker] = await Promise.all([withNixDaemon(), withNixDaemon()]);
  });
  afterAll(async () => {
    await Promise.all([source, worker].map((daemon) => daemon[Symbol.asyncDispose]()));
  });

  /** A derivation with a built input of three levels, all of which the server has. */
  async function prepare(name: string, { content = `echo ${name}`, compression = "none" as "none" | "zstd" } = {}) {
    const drvPath = await instantiate(
      source,
      `let deep = mk "${name}-deep" "${content} > $out" {};
        middle = mk "${name}-middle" "echo $deep > $out" { inherit deep; };
        in mk "${name}" "cat $dep $text > $out" { text = builtins.toFile "${name}-text" "words of ${name}\n";
          dep = mk "${name}-dep" "echo $middle > $out; echo $out >> $out" { inherit middle; }; }`,
    );
    const inputDrvs = [...(await readDerivation(source, drvPath)).inputDerivations.keys()];
    await nixOutput(["nix-store", "--realise", ...inputDrvs], source.env);
    const request = await requestFor(source, drvPath);
    const store = new MemoryStore();
    const closure = await publish(source, request.inputs, store, compression);
    const find = (suffix: string) => closure.find((path) => path.endsWith(`${name}-${suffix}`)) as StorePath;
    return { request, store, closure, find };
  }

  async function build(request: BuildRequest, link: MemoryLink) {
    await using environment = environmentOf(worker);
    return await executeBuild(request, link, environment);
  }

  async function validHere(paths: readonly StorePath[]): Promise<Set<StorePath>> {
    using connection = await DaemonConnection.open(worker.socketPath);
    return await connection.queryValidPaths(paths);
  }

  test("what is missing is fetched with all it refers to, what is there is not fetched again", async () => {
    const { request, store, closure } = await prepare("closure");
    const first = new MemoryLink(store);
    const result = await build(request, first);
    expect(result).toMatchObject({ status: "built", failure: null });
    expect([...first.fetched].sort()).toEqual([...closure].sort());
    const output = result.outputs[0]?.path as StorePath;
    expect(await readFile(join(worker.root, output), "utf8")).toMatch(/-closure-middle\n.*words of closure\n/s);

    await nixOutput(["nix-store", "--delete", output], worker.env);
    const second = new MemoryLink(store);
    expect(await build(request, second)).toMatchObject({ status: "built" });
    expect([second.fetched, second.queries]).toEqual([[], []]);
  });

  test("when the outputs are there already no input is fetched", async () => {
    const { request, store, closure } = await prepare("present");
    const { outputs } = await build(request, new MemoryLink(store));
    const leaf = request.inputs.find((path) => path.endsWith("present-text")) as StorePath;
    await nixOutput(["nix-store", "--delete", leaf], worker.env);
    const link = new MemoryLink(store);
    expect(await build(request, link)).toMatchObject({ status: "already_valid", outputs });
    expect(link.fetched).toEqual([]);
    expect((await validHere(closure)).has(leaf)).toBe(false);
  });

  test("zstd and uncompressed files are read, a form that is not known is an input that cannot be had", async () => {
    const { request, store, find } = await prepare("forms");
    const link: MemoryLink = new MemoryLink(store, {
      async fetchNar(path) {
        const { info, ...nar } = await link.stored(path);
        if (path !== find("dep")) return { info, ...nar };
        const bytes = zstdCompressSync(bytesOf(store, path));
        return { info, compression: "zstd", fileSize: bytes.length, body: streamOf(bytes) };
      },
    });
    expect(await build(request, link)).toMatchObject({ status: "built" });

    const other = await prepare("unknown-form");
    const odd: MemoryLink = new MemoryLink(other.store, {
      fetchNar: async (path) => ({ ...(await odd.stored(path)), compression: "lrzip" }),
    });
    const result = await build(other.request, odd);
    expect(result.failure).toMatchObject({ class: "inputs_unavailable", message: expect.stringContaining("lrzip") });
  });

  test("inputs that nobody has are named, all of them", async () => {
    const { request, store, find } = await prepare("absent");
    const absent = [find("deep"), find("text")];
    for (const path of absent) store.nars.delete(path);
    const result = await build(request, new MemoryLink(store));
    expect(result.failure).toMatchObject({
      class: "inputs_unavailable",
      message: expect.stringContaining("2 inputs in no cache that the organization reads"),
    });
    expect([...(result.failure?.missing ?? [])].sort()).toEqual(absent.sort());
  });

  test("an input that vanished between question and fetch is named", async () => {
    const { request, store, find } = await prepare("vanished");
    const gone = find("middle");
    const link = new MemoryLink(store, {
      async queryCache(paths) {
        const infos = paths.flatMap((path) => store.nars.get(path)?.info ?? []);
        if (paths.includes(gone)) store.nars.delete(gone);
        return infos;
      },
    });
    const result = await build(request, link);
    expect(result.failure).toMatchObject({ class: "inputs_unavailable", missing: [gone] });
  });

  test.each<[string, (nar: FetchedNar, bytes: Uint8Array) => Partial<FetchedNar>]>([
    ["another byte", (_, bytes) => ({ body: streamOf(flipped(bytes)) })],
    ["a missing end", (_, bytes) => ({ body: streamOf(bytes.subarray(0, -8)) })],
    ["bytes too many", (_, bytes) => ({ body: streamOf(bytes, new Uint8Array(8)) })],
    [
      "a truncated zstd frame",
      (_, bytes) => ({ compression: "zstd", body: streamOf(zstdCompressSync(bytes).subarray(0, -9)) }),
    ],
  ])("an input with %s is named as damaged and never imported", async (fault, damage) => {
    const { request, store, find } = await prepare(`damaged-${fault.replaceAll(" ", "-")}`);
    const damaged = find("middle");
    const link: MemoryLink = new MemoryLink(store, {
      async fetchNar(path) {
        const nar = await link.stored(path);
        return path === damaged ? { ...nar, ...damage(nar, bytesOf(store, path)) } : nar;
      },
    });
    const result = await build(request, link);
    expect(result.failure).toMatchObject({
      class: "inputs_unavailable",
      missing: [damaged],
      message: expect.stringContaining("an input is damaged"),
    });
    expect(await validHere([damaged])).toEqual(new Set());
  });

  test("a fetch that is interrupted is begun again from the start", async () => {
    const { request, store, find } = await prepare("interrupted");
    let tries = 0;
    const link: MemoryLink = new MemoryLink(store, {
      async fetchNar(path) {
        const nar = await link.stored(path);
        if (path !== find("dep") || ++tries > 2) return nar;
        const bytes = bytesOf(store, path);
        async function* broken(): AsyncGenerator<Uint8Array> {
          yield bytes.subarray(0, 50);
          throw new Error("the session ended");
        }
        return { ...nar, body: broken() };
      },
    });
    expect(await build(request, link)).toMatchObject({ status: "built" });
    expect(tries).toBe(3);
  });

  test("a NAR with other references than announced brings those in, too", async () => {
    const { request, store, find } = await prepare("changed");
    const dep = find("dep");
    let released = 0;
    const link: MemoryLink = new MemoryLink(store, {
      queryCache: async (paths) =>
        paths
          .flatMap((path) => store.nars.get(path)?.info ?? [])
          .map((info) => (info.path === dep ? { ...info, references: [] } : info)),
      async fetchNar(path) {
        const nar = await link.stored(path);
        const iterator = nar.body[Symbol.asyncIterator]();
        const next = () => iterator.next();
        const end = async () => ({ done: true as const, value: void released++ });
        return { ...nar, body: { [Symbol.asyncIterator]: () => ({ next, return: end }) } };
      },
    });
    expect(await build(request, link)).toMatchObject({ status: "built" });
    // The NAR that was not as announced was not read: the server is told so.
    expect(released).toBe(1);
    expect(await validHere([find("deep")])).toEqual(new Set([find("deep")]));
  });

  test("a build that waited for the fetch of another one fetches by itself when that one ends", async () => {
    const { request, store, find } = await prepare("shared");
    await using environment = environmentOf(worker);
    const started = Promise.withResolvers<void>();
    const first: MemoryLink = new MemoryLink(store, {
      async fetchNar(path) {
        const nar = await first.stored(path);
        if (path !== find("deep")) return nar;
        async function* endless(): AsyncGenerator<Uint8Array> {
          started.resolve();
          await new Promise(() => {});
          yield new Uint8Array();
        }
        return { ...nar, body: endless() };
      },
    });
    const text = find("text");
    const other: BuildRequest = await requestFor(
      source,
      await instantiate(
        source,
        `mk "shares" "cat $dep $text > $out" {
      text = builtins.toFile "shares-text" "x"; dep = "${find("dep")}"; }`,
      ),
    );
    const second = new MemoryLink(store);
    await publish(source, other.inputs, store);

    const failing = executeBuild(request, first, environment).catch((error: unknown) => error);
    await started.promise;
    const succeeding = executeBuild({ ...other, inputs: [...other.inputs, find("dep")] }, second, environment);
    await expect.poll(() => second.queries.length).toBeGreaterThan(2);
    expect(second.fetched).not.toContain(find("deep"));
    first.abort.abort(new AttemptEndedError("given up"));
    expect(await failing).toBeInstanceOf(AttemptEndedError);
    expect(await succeeding).toMatchObject({ status: "built", failure: null });
    expect(second.fetched).toContain(find("deep"));
    expect(second.fetched).not.toContain(text);
  });

  // On Nix 2.26 one of the two sometimes fails or fetches again: the cause is not found yet.
  test("builds that need the same path at once fetch it once", async () => {
    const together = await prepare("together");
    const links = [new MemoryLink(together.store), new MemoryLink(together.store)];
    await using pool = new DaemonPool({ socketPath: worker.socketPath, maxConnections: 4 });
    await using two = environmentOf(worker, { pool });
    const twin = await requestFor(
      source,
      await instantiate(
        source,
        `mk "twin" "cat $dep > $out" {
      dep = "${together.find("dep")}"; }`,
      ),
    );
    const requests = [together.request, { ...twin, inputs: [together.find("dep")] }];
    const results = await Promise.all(requests.map((one, index) => executeBuild(one, links[index] as MemoryLink, two)));
    expect(results.map(({ status }) => status)).toEqual(["built", "built"]);
    const fetched = links.flatMap((link) => link.fetched);
    expect(fetched.sort()).toEqual([...together.closure].sort());
  });

  test("300 MB come in with memory that does not grow with them", async () => {
    const content = "head -c 300000000 /dev/zero";
    const { request, store, find } = await prepare("large", { content, compression: "zstd" });
    const deep = find("deep");
    setFlagsFromString("--expose-gc");
    const collectGarbage = runInNewContext("gc") as () => void;
    collectGarbage();
    const before = process.memoryUsage().arrayBuffers;
    let peak = 0;
    const link: MemoryLink = new MemoryLink(store, {
      async fetchNar(path) {
        const nar = await link.stored(path);
        async function* piecewise(): AsyncGenerator<Uint8Array> {
          for await (const chunk of nar.body) {
            for (let offset = 0; offset < chunk.length; offset += 64) {
              if (offset % 1024 === 0) {
                collectGarbage();
                peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
              }
              yield chunk.subarray(offset, offset + 64);
            }
          }
        }
        return path === deep ? { ...nar, body: piecewise() } : nar;
      },
    });
    expect(await build(request, link)).toMatchObject({ status: "built" });
    expect(peak).toBeLessThan(100 * MIB);
  });
});

function bytesOf(store: MemoryStore, path: StorePath): Uint8Array {
  const nar = store.nars.get(path);
  if (!nar) throw new Error(`${path} is not there`);
  return nar.bytes;
}

function flipped(bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  const last = copy.lastIndexOf("\n".charCodeAt(0));
  copy[last] = 33;
  return copy;
}
