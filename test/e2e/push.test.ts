import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { formatHash } from "#core/nix/hash.ts";
import { type LocalPath, localPath, narName } from "../cache/push-support.ts";
import { narHashOf } from "../cache/support.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "../support/nix.ts";
import { withTemporaryFolder } from "../support/temporary-folder.ts";
import { Api } from "./api.ts";
import { freePort } from "./gradient.ts";
import { startService } from "./process.ts";

const nix = nixAvailable();
const MIB = 1024 * 1024;
const PUBLIC_KEY = "/caches/own/public-key";

test.skipIf(!nix.ok)(
  "with an API key for one cache, stock Nix pushes to a server and gets it back; parts and a push survive its death",
  { timeout: 120_000 },
  async () => {
    await using folder = await withTemporaryFolder();
    await using daemon = await withNixDaemon();
    const port = await freePort();
    const origin = `http://127.0.0.1:${port}`;
    const settings = {
      GRADIENT_BASE_PATH: join(folder.path, "server"),
      GRADIENT_PORT: String(port),
      GRADIENT_SERVE_URL: origin,
      GRADIENT_MAX_NAR_UPLOAD_SIZE: String(4 * MIB),
    };
    const first = startService("runtime/node/main.ts", settings);
    await using services = new AsyncDisposableStack();
    services.use(first);
    await first.waitFor("the server is ready");
    const api = new Api(origin);
    await api.signUp("ada");
    await api.request("PUT", "/caches", { name: "own", display_name: "Own", public: false });
    const permissions = ["viewCache", "readStore", "writeStore"];
    const key = await api.request<string>("POST", "/user/keys", { name: "ci", permissions, cache: "own" });
    const headers = { authorization: `Basic ${btoa(`x:${key}`)}` };
    const cache = `${origin}/cache/own`;

    // A push that is under way when the server dies.
    const path = await localPath("path", { content: new Uint8Array(randomBytes(3 * MIB)) });
    const url = `/cache/own/${await narName(path.nar)}`;
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    const head = `PUT ${url} HTTP/1.1\r\nHost: x\r\nAuthorization: ${headers.authorization}\r\n`;
    socket.write(`${head}Content-Length: ${path.nar.length}\r\n\r\n`);
    socket.write(path.nar.subarray(0, 2 * MIB));
    const chunk = `${origin}/api/v1/caches/own/nars/${path.hash}/chunk`;
    const bearer = { authorization: `Bearer ${key}` };
    await fetch(`${chunk}?offset=0`, { method: "PUT", headers: bearer, body: path.nar.slice(0, 2 * MIB) });
    await sleep(200);
    await first.kill();

    const second = services.use(startService("runtime/node/main.ts", settings));
    await second.waitFor("the server is ready");
    expect((await fetch(origin + url, { method: "HEAD", headers })).status).toBe(404);
    const { message } = (await (await fetch(chunk, { headers: bearer })).json()) as { message: { received: number } };
    expect(message.received).toBe(2 * MIB);
    await fetch(`${chunk}?offset=${2 * MIB}`, { method: "PUT", headers: bearer, body: path.nar.slice(2 * MIB) });
    const hash = formatHash(await narHashOf(path.nar), "nix32");
    const described = { store_path: path.storePath, nar_hash: hash, nar_size: path.nar.length, file_hash: hash };
    api.token = key;
    expect(await api.request("POST", `/caches/own/nars/${path.hash}/finalize`, described)).toMatchObject({
      created: true,
    });

    await copyWithNix({
      daemon,
      folder: folder.path,
      cache,
      key,
      publicKey: await api.request("GET", PUBLIC_KEY),
      path,
    });

    const large = new Uint8Array(4 * MIB + 1);
    const refused = await fetch(`${cache}/${await narName(large)}`, { method: "PUT", headers, body: large });
    expect(refused.status).toBe(413);
    expect((await fetch(`${cache}/nix-cache-info`, { headers })).status).toBe(200);
    expect((await fetch(`${origin}/cache/other/nix-cache-info`, { headers })).status).toBe(404);
  },
);

interface NixCopies {
  readonly daemon: NixDaemon;
  readonly folder: string;
  readonly cache: string;
  readonly key: string;
  readonly publicKey: string;
  readonly path: LocalPath;
}

/** Gets the path out of the cache, and others into it and out again. */
async function copyWithNix({ daemon, folder, cache, key, publicKey, path }: NixCopies): Promise<void> {
  const netrc = join(folder, "netrc");
  await writeFile(netrc, `machine 127.0.0.1 login ci password ${key}\n`);
  const option = ["--option", "netrc-file", netrc];
  const client = join(daemon.folder, "client");
  const env = { ...daemon.env, NIX_REMOTE: "", XDG_CACHE_HOME: join(client, "cache") };
  const trust = ["--option", "trusted-public-keys", publicKey];
  await nixOutput(["nix", "copy", ...option, ...trust, "--from", cache, "--to", client, path.storePath], env);

  const expression = 'builtins.toFile "a" (builtins.toFile "b" "c")';
  const evaluate = ["--eval", "--read-write-mode", "--json", "-E", expression];
  const made = JSON.parse(await nixOutput(["nix-instantiate", ...evaluate], daemon.env));
  expect((await runNix(["nix", "copy", "--to", cache, ...option, made], daemon.env)).code).toBe(0);
  await nixOutput(["nix", "copy", ...option, "--from", cache, "--to", client, made], env);
}
