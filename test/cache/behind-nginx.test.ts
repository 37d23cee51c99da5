import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { freePort } from "#test/e2e/gradient.ts";
import { nginxAvailable, STORAGE_LOCATION, withProxy } from "#test/e2e/proxy.ts";
import { makeCertificate } from "#test/support/certificate.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "#test/support/nix.ts";
import { type PushBench, type TestPusher, withPushBench } from "./push-support.ts";
import type { TestCache } from "./support.ts";

const nix = nixAvailable();
const PATHS = 300;
const EXPRESSION = `let
    paths = builtins.genList (i: builtins.toFile "path-\${toString i}" "path \${toString i}") ${PATHS - 1};
  in builtins.toFile "all" (builtins.concatStringsSep "\\n" paths)`;

describe.skipIf(!nix.ok || !nginxAvailable())(
  "Nix over HTTP/2, through an nginx that sends files and keeps what is public",
  () => {
    let daemon: NixDaemon;
    let bench: PushBench;
    let server: Awaited<ReturnType<PushBench["listen"]>>;
    let proxy: AsyncDisposable;
    let origin: string;
    let client: ClientHttp2Session;
    let all: string;

    beforeAll(async () => {
      [daemon, bench] = await Promise.all([withNixDaemon(), withPushBench()]);
      server = await bench.listen({
        blobs: await openDiskBlobStore(bench.blobFolder, { groupReadable: true }),
        elsewhere: { redirected: false, proxyPath: STORAGE_LOCATION },
      });
      const port = await freePort();
      origin = `https://127.0.0.1:${port}`;
      const tls = makeCertificate("127.0.0.1");
      proxy = await withProxy(join(daemon.folder, "nginx"), {
        port,
        servers: [server.port],
        storage: bench.blobFolder,
        tls,
        microCached: true,
        accessLog: join(daemon.folder, "access.log"),
      });
      await writeFile(join(daemon.folder, "authority.pem"), tls.certificate);
      client = connect(origin, { ca: tls.certificate });
      all = JSON.parse(
        await nixOutput(["nix-instantiate", "--eval", "--read-write-mode", "--json", "-E", EXPRESSION], daemon.env),
      );
    }, 60_000);
    afterAll(async () => {
      client?.close();
      await proxy?.[Symbol.asyncDispose]();
      await server?.[Symbol.asyncDispose]();
      await bench?.[Symbol.asyncDispose]();
      await daemon?.[Symbol.asyncDispose]();
    });

    const urlOf = (cache: TestCache) => `${origin}/cache/${cache.name}`;
    const trusting = () => ({
      ...daemon.env,
      NIX_SSL_CERT_FILE: join(daemon.folder, "authority.pem"),
      // On a busy machine handshakes of TLS take longer than the two seconds that tests have.
      NIX_CONFIG: "connect-timeout = 60",
    });
    const requests = async () => (await readFile(join(daemon.folder, "access.log"), "utf8")).trim().split("\n");

    async function netrcOf(cache: TestCache, pusher?: TestPusher): Promise<string> {
      const { id } = pusher ?? (await bench.pusher({ [cache.id]: "Write" }));
      const file = join(daemon.folder, `netrc-${id}`);
      await writeFile(file, `machine 127.0.0.1 login nix password ${id}\n`);
      return file;
    }

    /** Over HTTP/2, with the user name and password of a pusher if there is one. */
    async function ask(url: string, as?: TestPusher): Promise<{ status: number; body: string }> {
      const { pathname } = new URL(url);
      const stream = client.request({ ":path": pathname, ...as?.headers });
      stream.end();
      const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
      const body = Buffer.concat(await Array.fromAsync(stream as AsyncIterable<Buffer>)).toString("latin1");
      return { status: Number(headers[":status"]), body };
    }

    test.each([{ public: true }, { public: false }])(
      `${PATHS} paths go to a cache and come back: %o`,
      { timeout: 180_000 },
      async (options) => {
        const cache = await bench.makeCache(options);
        const netrc = ["--option", "netrc-file", await netrcOf(cache)];
        const copied = await runNix(
          ["nix", "copy", "--to", `${urlOf(cache)}?compression=zstd`, ...netrc, all],
          trusting(),
        );
        expect(copied.stderr).not.toContain("error");
        expect(copied.code).toBe(0);

        const root = join(daemon.folder, `client-${cache.name}`);
        const env = { ...trusting(), NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "c") };
        const keys = ["--option", "trusted-public-keys", cache.publicKey, "--option", "substituters", ""];
        const flags = [...keys, ...(options.public ? [] : netrc)];
        await nixOutput(["nix", "copy", ...flags, "--from", urlOf(cache), "--to", root, all], env);
        const closure = await nixOutput(["nix-store", "--store", root, "-qR", all], env);
        expect(closure.split("\n")).toHaveLength(PATHS);
        expect((await runNix(["nix", "store", "verify", ...flags, "--store", root, "-r", all], env)).code).toBe(0);
        const lines = (await requests()).filter((line) => line.includes(`/${cache.name}/`));
        expect(lines.filter((line) => !line.startsWith("HTTP/2.0 "))).toEqual([]);
        expect(lines.filter((line) => / GET .*narinfo 200/.test(line)).length).toBeGreaterThanOrEqual(PATHS);
      },
    );

    test("who asks with credentials leaves nothing behind for who asks without, however close they come", async () => {
      const cache = await bench.makeCache({ public: false });
      const pusher = await bench.pusher({ [cache.id]: "Write" });
      const netrc = await netrcOf(cache, pusher);
      const secret = await nixOutput(["nix-store", "--add", netrc], daemon.env);
      const flags = ["--option", "netrc-file", netrc];
      await nixOutput(["nix", "copy", "--to", urlOf(cache), ...flags, secret], trusting());
      const url = `${urlOf(cache)}/${secret.slice("/nix/store/".length, "/nix/store/".length + 32)}.narinfo`;

      for (let i = 0; i < 5; i++) {
        const allowed = await ask(url, pusher);
        expect(allowed.status).toBe(200);
        const nar = `${urlOf(cache)}/${/^URL: (.+)$/m.exec(allowed.body)?.[1]}`;
        expect((await ask(nar, pusher)).status).toBe(200);
        expect([(await ask(url)).status, (await ask(nar)).status]).toEqual([401, 401]);
      }
      const hits = (await requests()).filter((line) => line.includes(`/${cache.name}/`) && line.endsWith("HIT"));
      expect(hits).toEqual([]);
    });

    test("what was not there is found the moment it is; what many ask for reaches the server once", async () => {
      const cache = await bench.makeCache();
      const file = join(daemon.folder, "late");
      await writeFile(file, cache.name);
      const path = await nixOutput(["nix-store", "--add", file], daemon.env);
      const name = `${path.slice("/nix/store/".length, "/nix/store/".length + 32)}.narinfo`;
      expect((await ask(`${urlOf(cache)}/${name}`)).status).toBe(404);
      const flags = ["--option", "netrc-file", await netrcOf(cache)];
      await nixOutput(["nix", "copy", "--to", urlOf(cache), ...flags, path], trusting());
      expect((await ask(`${urlOf(cache)}/${name}`)).status).toBe(200);

      server.requests.length = 0;
      const answers = await Promise.all(Array.from({ length: 50 }, () => ask(`${urlOf(cache)}/${name}`)));
      expect(answers.every(({ status }) => status === 200)).toBe(true);
      expect(server.requests.filter((line) => line.includes(name)).length).toBeLessThan(answers.length);
      expect((await requests()).filter((line) => line.includes(name) && line.endsWith("HIT")).length).toBeGreaterThan(
        0,
      );
    });
  },
);
