import { open } from "node:fs/promises";
import { join } from "node:path";
import { parseHash } from "#core/nix/hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { CommittedPath } from "#core/services/cache-commit.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { instantiate, storePath } from "#test/support/derivations.ts";
import { type NixDaemon, type NixRun, nixOutput, runNix } from "#test/support/nix.ts";
import { type CacheBench, cut, type TestCache } from "./support.ts";

/** `lib`, and `app` that refers to it and to itself; `app` holds `bytes` random bytes. */
function closureExpression(bytes: number): string {
  return `let lib = mk "lib" "mkdir $out; echo lib > $out/lib" {};
    in mk "app" "mkdir -p $out/bin; echo ''\${lib} $out > $out/refers; ln -s refers $out/link;
      head -c ${bytes} /dev/urandom > $out/data; echo x > $out/bin/app; chmod +x $out/bin/app" {}`;
}

interface PathInfo {
  readonly narHash: string;
  readonly narSize: number;
  readonly references: readonly string[];
  readonly deriver?: string | null;
}

/** What `nix path-info --json` prints: Nix 2.8 a list of objects with `path`, newer ones an object by path. */
function readPathInfos(json: string): (PathInfo & { readonly path: string })[] {
  const infos: (PathInfo & { readonly path: string })[] | Record<string, PathInfo> = JSON.parse(json);
  return Array.isArray(infos) ? infos : Object.entries(infos).map(([path, info]) => ({ ...info, path }));
}

/** Builds the closure with Nix and puts it into the cache as a worker's upload would. */
export async function publish(
  bench: CacheBench,
  daemon: NixDaemon,
  cache: TestCache,
  bytes = 1_000,
): Promise<StorePath> {
  const drv = await instantiate(daemon, closureExpression(bytes));
  const output = storePath(await nixOutput(["nix-store", "--realise", drv], daemon.env));
  const json = await nixOutput(["nix", "path-info", "--json", "-r", output], daemon.env);
  const paths: CommittedPath[] = [];
  for (const info of readPathInfos(json)) {
    const narHash = parseHash(info.narHash);
    if (!narHash) throw new Error(`${info.narHash} is no hash`);
    const dumpFile = join(daemon.folder, "dump");
    await nixOutput(["sh", "-c", `nix-store --dump ${join(daemon.root, info.path)} > ${dumpFile}`], daemon.env);
    await using dump = await open(dumpFile);
    const body = cut(new Uint8Array(await dump.readFile()));
    await receiveNar(bench.deps, { narHash, narSize: info.narSize, compression: "none", body: asStream(body) });
    const references = info.references.map(storePath);
    const deriver = info.deriver ? storePath(info.deriver) : null;
    paths.push({ storePath: storePath(info.path), narHash, references, deriver, ca: null });
  }
  await bench.commit([cache.id], paths);
  return output;
}

async function* asStream(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

export interface Substitution {
  readonly port: number;
  readonly cache: TestCache;
  readonly path: StorePath;
  /** Lines for nix.conf of the client. */
  readonly options?: Readonly<Record<string, string>>;
}

/** Substitutes into a store that is empty, by a client that knows nothing but the cache's public key. */
export async function substitute(
  daemon: NixDaemon,
  { port, cache, path, options = {} }: Substitution,
): Promise<NixRun & { readonly root: string; readonly verify: () => Promise<NixRun> }> {
  const root = join(daemon.folder, `client-${cache.name}-${performance.now()}`);
  const all = {
    substituters: `http://127.0.0.1:${port}/cache/${cache.name}`,
    "trusted-public-keys": cache.publicKey,
    "max-jobs": "0",
    "narinfo-cache-negative-ttl": "0",
    "download-attempts": "2",
    ...options,
  };
  const flags = Object.entries(all).flatMap(([name, value]) => ["--option", name, value]);
  const env = { ...daemon.env, NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "cache") };
  const run = await runNix(["nix-store", "--store", root, ...flags, "--realise", path], env);
  const verify = () =>
    runNix(
      ["nix", "store", "verify", "--store", root, "-r", path, "--option", "trusted-public-keys", cache.publicKey],
      env,
    );
  return { ...run, root, verify };
}
