import { appendFile, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { streamOf } from "#core/lib/streams.ts";
import { sha256 } from "#core/nix/hash.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { DaemonConnection } from "#worker/daemon/connection.ts";
import { storePath } from "../support/derivations.ts";
import { nixAvailable, nixOutput, runNix } from "../support/nix.ts";
import { commitFlake } from "./flake.ts";
import { CACHE, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const [OTHER, OTHER_CACHE] = ["beta", "second"] as const;

/** `shared` is the same derivation for everybody; `own` has one name and other contents for each. */
const flakeOf = (owner: string) => `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
  in {
    packages.x86_64-linux = {
      warm = mk "warm-${owner}" "echo > $out";
      own = mk "own" "echo of ${owner} > $out";
      shared = mk "shared" "mkdir -p $out/nix-support; echo good > $out/file
        echo file text $out/file > $out/nix-support/hydra-build-products";
    };
  };
}
`;

describe.skipIf(!nix.ok)(`one worker, two organizations${reason}`, () => {
  test("neither gets what the other's store holds, and what is served bears the worker's signature", async () => {
    await using gradient = await withGradient({ GRADIENT_WORKER_CAPABILITY_SIGN: "true" });
    await addSecondOrganization(gradient);
    await build(gradient, ORGANIZATION, "warm");
    await build(gradient, OTHER, "warm");
    const shared = await poisonStore(gradient, ORGANIZATION, "shared");

    for (const organization of [ORGANIZATION, OTHER]) {
      await build(gradient, organization, "shared");
      await build(gradient, organization, "own");
    }

    // Whoever fills his own store has what he filled it with. The other one has what was built.
    expect(await contentOf(gradient, CACHE, shared)).toContain("poison");
    expect(await contentOf(gradient, OTHER_CACHE, shared)).toBe("good\n");
    const own = [await outPath(gradient, ORGANIZATION, "own"), await outPath(gradient, OTHER, "own")] as const;
    expect(await narInfo(gradient, CACHE, own[1])).toBeNull();
    expect(await narInfo(gradient, OTHER_CACHE, own[0])).toBeNull();
    using machine = await DaemonConnection.open(gradient.daemon.socketPath);
    expect(await machine.queryValidPaths([shared, ...own]), "the machine's store has nothing of either").toEqual(
      new Set(),
    );

    // Stock Nix that trusts the worker's key alone takes what it signed.
    const [worker] = await gradient.api.request<{ signing_key: string }[]>("GET", `/orgs/${OTHER}/workers`);
    expect(worker?.signing_key).toMatch(/^gradient-worker-[0-9a-f-]{36}:/);
    expect(await narInfo(gradient, OTHER_CACHE, own[1])).toMatch(/^Sig: gradient-worker-.*$/m);
    const copied = await copy(gradient, OTHER_CACHE, own[1], worker?.signing_key ?? "", "by-worker-key");
    expect(copied.code, copied.stderr).toBe(0);

    // Nothing is left of the daemons when the worker is.
    const stats = await Promise.all([ORGANIZATION, OTHER].map((name) => daemonStat(gradient, name)));
    await gradient.worker[Symbol.asyncDispose]();
    for (const line of stats) expect(await isRunning(Number.parseInt(line, 10))).toBe(false);
  });

  test("daemons of a worker that was killed are ended by the next one, which goes on in the same stores", async () => {
    await using gradient = await withGradient();
    await addSecondOrganization(gradient);
    await build(gradient, ORGANIZATION, "warm");
    const before = Number.parseInt(await daemonStat(gradient, ORGANIZATION), 10);

    await gradient.worker.kill();
    expect(await isRunning(before)).toBe(true);
    await gradient.startWorker();
    await build(gradient, ORGANIZATION, "own");

    expect(await isRunning(before)).toBe(false);
    expect(Number.parseInt(await daemonStat(gradient, ORGANIZATION), 10)).not.toBe(before);
  });
});

/** Registers the same worker there, which is started again with both tokens. */
async function addSecondOrganization(gradient: Gradient): Promise<void> {
  const { api, folder } = gradient;
  const described = { display_name: "Second", description: "" };
  const [registered] = await api.request<{ worker_id: string }[]>("GET", `/orgs/${ORGANIZATION}/workers`);
  await api.request("PUT", "/orgs", { name: OTHER, ...described });
  await api.request("PUT", "/caches", { name: OTHER_CACHE, ...described, priority: 40, public: true });
  await api.request("POST", `/orgs/${OTHER}/subscribe/${OTHER_CACHE}`, {});
  const body = { worker_id: registered?.worker_id };
  const token = await api.request<{ peer_id: string; token: string }>("POST", `/orgs/${OTHER}/workers`, body);
  await appendFile(join(folder, "peers"), `${token.peer_id}:${token.token}\n`);
  await gradient.worker[Symbol.asyncDispose]();
  await gradient.startWorker();
}

async function repositoryOf({ folder }: Gradient, organization: string): Promise<string> {
  return await commitFlake(
    join(folder, `flake-${organization}`),
    { "flake.nix": flakeOf(organization) },
    "A flake",
  ).catch(() => `file://${join(folder, `flake-${organization}`)}`);
}

async function build(gradient: Gradient, organization: string, attribute: string): Promise<void> {
  const { api } = gradient;
  const repository = await repositoryOf(gradient, organization);
  const described = { name: attribute, display_name: attribute, description: "" };
  await api.request("PUT", `/projects/${organization}`, {
    ...described,
    repository,
    wildcard: `packages.*.${attribute}`,
  });
  const evaluation = await api.evaluate(`${organization}/${attribute}`);
  const ended = await api.waitForEnd(evaluation);
  expect(ended, JSON.stringify(await api.messages(evaluation))).toMatchObject({ status: "Completed" });
}

async function outPath(gradient: Gradient, organization: string, attribute: string): Promise<StorePath> {
  const flake = `git+${await repositoryOf(gradient, organization)}#packages.x86_64-linux.${attribute}.outPath`;
  const env = { ...gradient.daemon.env, NIX_REMOTE: `local?root=${join(gradient.folder, "eval")}` };
  return storePath(await nixOutput(["nix", "eval", "--raw", flake], env));
}

/** As a trusted user of the organization's own daemon: garbage in the place of an output. */
async function poisonStore(gradient: Gradient, organization: string, attribute: string): Promise<StorePath> {
  const path = await outPath(gradient, organization, attribute);
  const words = ["nix-archive-1", "(", "type", "regular", "contents", "poison", ")"];
  const parts = words.map((word) => {
    const bytes = Buffer.alloc(8 + Math.ceil(word.length / 8) * 8);
    bytes.writeUInt32LE(word.length);
    bytes.write(word, 8);
    return bytes;
  });
  const nar = new Uint8Array(Buffer.concat(parts));
  const narHash = { algorithm: "sha256", digest: await sha256(nar) } as const;
  using connection = await DaemonConnection.open(join(await storeFolder(gradient, organization), "socket"));
  const info = { path, narHash, narSize: nar.length, references: [] };
  await connection.addToStoreNar(info, streamOf(nar), { checkSignatures: false });
  return path;
}

async function storeFolder({ api, folder }: Gradient, organization: string): Promise<string> {
  const { id } = await api.request<{ id: string }>("GET", `/orgs/${organization}`);
  return join(folder, "worker", "stores", id);
}

async function daemonStat(gradient: Gradient, organization: string): Promise<string> {
  return await readFile(join(await storeFolder(gradient, organization), "daemon.stat"), "utf8");
}

async function narInfo({ url }: Gradient, cache: string, path: StorePath): Promise<string | null> {
  const response = await fetch(`${url}/cache/${cache}/${path.slice(11, 43)}.narinfo`);
  return response.status === 200 ? await response.text() : null;
}

async function copy(gradient: Gradient, cache: string, path: string, key: string, store: string) {
  const places = ["--from", `${gradient.url}/cache/${cache}`, "--to", join(gradient.daemon.folder, store)];
  const options = ["--option", "download-attempts", "1", "--option", "trusted-public-keys", key];
  return await runNix(["nix", "copy", ...places, path, ...options], { ...gradient.daemon.env, NIX_REMOTE: "" });
}

/** What a client gets from the cache: the file, or the one in it. */
async function contentOf(gradient: Gradient, cache: string, path: StorePath): Promise<string> {
  const key = await gradient.api.request<string>("GET", `/caches/${cache}/public-key`);
  const store = `client-of-${cache}`;
  const { code, stderr } = await copy(gradient, cache, path, key, store);
  expect(code, stderr).toBe(0);
  const real = join(gradient.daemon.folder, store, path);
  return await readFile((await stat(real)).isDirectory() ? join(real, "file") : real, "utf8");
}

/** What has ended and is not waited for by whoever adopted it does not run. */
async function isRunning(pid: number): Promise<boolean> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text !== "" && !/\) [ZX] /.test(text);
}
