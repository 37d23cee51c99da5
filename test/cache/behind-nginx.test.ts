import { once } from "node:events";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, connect, type IncomingHttpHeaders } from "node:http2";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseSentNar } from "#core/http/sent-nar.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { freePort } from "#test/e2e/gradient.ts";
import { nginxAvailable, STORAGE_LOCATION } from "#test/e2e/proxy.ts";
import { canEvaluate } from "#test/nixos/support/evaluate.ts";
import {
  type GeneratedProxy,
  generatedSystems,
  startGenerated,
  writeCertificate,
} from "#test/nixos/support/generated-proxy.ts";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "#test/support/nix.ts";
import { type PushBench, type TestPusher, withPushBench } from "./push-support.ts";
import { randomContent, type TestCache } from "./support.ts";

const nix = nixAvailable();
const PATHS = 300;
const LARGE_BYTES = 500_000;
const EXPRESSION = `let
    paths = builtins.genList (i: builtins.toFile "path-\${toString i}" "path \${toString i}") ${PATHS - 1};
  in builtins.toFile "all" (builtins.concatStringsSep "\\n" paths)`;

describe.skipIf(!nix.ok || !canEvaluate() || !nginxAvailable())(
  "Nix over HTTP/2, through nginx as the NixOS module configures it: it sends files and keeps what is public",
  () => {
    let daemon: NixDaemon;
    let bench: PushBench;
    let server: Awaited<ReturnType<PushBench["listen"]>>;
    let logPath: string;
    let proxy: GeneratedProxy;
    let origin: string;
    let certificate: string;
    let session: ClientHttp2Session | null = null;
    let all: string;
    let large: string;

    beforeAll(async () => {
      [daemon, bench] = await Promise.all([withNixDaemon(), withPushBench()]);
      server = await bench.listen({
        blobs: await openDiskBlobStore(bench.blobFolder, { groupReadable: true }),
        elsewhere: { redirected: false, proxyPath: STORAGE_LOCATION, proxyCounts: true },
      });
      logPath = join(daemon.folder, "sent");
      await mkdir(logPath);
      const port = await freePort();
      const folder = join(daemon.folder, "nginx");
      ({ certificate } = await writeCertificate(folder));
      proxy = await startGenerated("nginx", generatedSystems(server.port).nginx, {
        folder,
        port,
        serverPort: server.port,
        storage: bench.blobFolder,
        logPath,
        pages: folder,
        // The folders of the test are closed to everybody else.
        user: "root",
      });
      origin = proxy.origin;
      await writeFile(join(daemon.folder, "authority.pem"), certificate);
      all = JSON.parse(
        await nixOutput(["nix-instantiate", "--eval", "--read-write-mode", "--json", "-E", EXPRESSION], daemon.env),
      );
      await writeFile(join(daemon.folder, "large"), randomContent(LARGE_BYTES));
      large = await nixOutput(["nix-store", "--add", join(daemon.folder, "large")], daemon.env);
    }, 60_000);
    afterAll(async () => {
      session?.close();
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
    /** Protocol, method, path, status, whether the memory answered, and what nginx was sent to. */
    const requests = async () => (await proxy.requests()).map((line) => line.split(" ") as [string, ...string[]]);

    /** How many bytes each NAR of the cache had that nginx has sent. */
    async function sentOf(cache: TestCache): Promise<number[]> {
      const files = await Promise.all((await readdir(logPath)).map((name) => readFile(join(logPath, name), "utf8")));
      const lines = files.flatMap((text) => text.split("\n").map(parseSentNar));
      return lines.flatMap((line) => (line?.cacheId === cache.id ? [line.bytes] : []));
    }

    async function netrcOf(cache: TestCache, pusher?: TestPusher): Promise<string> {
      const { id } = pusher ?? (await bench.pusher({ [cache.id]: "Write" }));
      const file = join(daemon.folder, `netrc-${id}`);
      await writeFile(file, `machine 127.0.0.1 login nix password ${id}\n`);
      return file;
    }

    /** nginx ends a connection that was idle for long, or had its share of requests. */
    function client(): ClientHttp2Session {
      if (session === null || session.closed || session.destroyed) session = connect(origin, { ca: certificate });
      return session;
    }

    /** Over HTTP/2, with the user name and password of a pusher if there is one. */
    async function ask(url: string, as?: TestPusher): Promise<{ status: number; body: string }> {
      const { pathname, search } = new URL(url);
      const stream = client().request({ ":path": pathname + search, ...as?.headers });
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
        const to = `${urlOf(cache)}?compression=zstd`;
        const copied = await runNix(["nix", "copy", "--to", to, ...netrc, all, large], trusting());
        expect(copied.stderr).not.toContain("error");
        expect(copied.code).toBe(0);

        const root = join(daemon.folder, `client-${cache.name}`);
        const env = { ...trusting(), NIX_REMOTE: "", HOME: root, XDG_CACHE_HOME: join(root, "c") };
        const keys = ["--option", "trusted-public-keys", cache.publicKey, "--option", "substituters", ""];
        const flags = [...keys, ...(options.public ? [] : netrc)];
        await nixOutput(["nix", "copy", ...flags, "--from", urlOf(cache), "--to", root, all, large], env);
        const closure = await nixOutput(["nix-store", "--store", root, "-qR", all], env);
        expect(closure.split("\n")).toHaveLength(PATHS);
        expect((await runNix(["nix", "store", "verify", ...flags, "--store", root, "-r", all], env)).code).toBe(0);
        const lines = (await requests()).filter(([, , path]) => path?.startsWith(`/cache/${cache.name}/`));
        expect(lines.filter(([protocol]) => protocol !== "HTTP/2.0")).toEqual([]);
        const read = lines.filter(([, method, , status]) => method === "GET" && status === "200");
        expect(read.filter(([, , path]) => path?.endsWith(".narinfo")).length).toBeGreaterThanOrEqual(PATHS);
        const nars = read.filter(([, , path]) => path?.includes("/nar/"));
        expect(nars.length).toBeGreaterThanOrEqual(PATHS);
        expect(nars.filter(([, , , , , file]) => !file?.startsWith(STORAGE_LOCATION))).toEqual([]);
        expect((await sentOf(cache)).length).toBe(nars.length);
        expect(nars.filter(([, , path]) => path?.includes("?hash=")).length).toBe(options.public ? nars.length : 0);
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
      const hits = (await requests()).filter(([, , path, , memory]) => path?.includes(cache.name) && memory === "HIT");
      expect(hits).toEqual([]);
    });

    test("what was not there is found the moment it is; what everybody asks for comes of nginx's memory", async () => {
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
      let asked = 0;
      const answered = () => asked - server.requests.filter((line) => line.includes(name)).length;
      // What nginx holds is a second old at most: on a busy machine the first few may each come too late.
      await expect
        .poll(
          async () => {
            const answers = await Promise.all(Array.from({ length: 10 }, () => ask(`${urlOf(cache)}/${name}`)));
            asked += answers.length;
            expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
            return answered();
          },
          { timeout: 20_000 },
        )
        .toBeGreaterThanOrEqual(20);
    });

    test("nginx sends a NAR whose narinfo it has just fetched, and the server hears nothing of it", async () => {
      const cache = await bench.makeCache();
      const file = join(daemon.folder, "next");
      await writeFile(file, randomContent(300_000));
      const path = await nixOutput(["nix-store", "--add", file], daemon.env);
      const flags = ["--option", "netrc-file", await netrcOf(cache)];
      await nixOutput(["nix", "copy", "--to", urlOf(cache), ...flags, path], trusting());
      const fetched = async () => {
        const narInfo = await ask(`${urlOf(cache)}/${path.slice("/nix/store/".length).split("-", 1)[0]}.narinfo`);
        server.requests.length = 0;
        const nar = await ask(`${urlOf(cache)}/${/^URL: (.*)$/m.exec(narInfo.body)?.[1]}`);
        expect([nar.status, nar.body.length]).toEqual([200, Number(/^FileSize: (.*)$/m.exec(narInfo.body)?.[1])]);
        return server.requests.filter((line) => line.includes(cache.name));
      };
      // A second may pass in between on a busy machine.
      await expect.poll(fetched, { timeout: 20_000 }).toEqual([]);
    });

    test("of a file that is gone the server tells, also while nginx remembers where it was", async () => {
      const cache = await bench.makeCache();
      const file = join(daemon.folder, "lost");
      await writeFile(file, randomContent(300_000));
      const path = await nixOutput(["nix-store", "--add", file], daemon.env);
      const stored = () => readdir(join(bench.blobFolder, "nar"), { recursive: true });
      const before = new Set(await stored());
      const flags = ["--option", "netrc-file", await netrcOf(cache)];
      await nixOutput(["nix", "copy", "--to", urlOf(cache), ...flags, path], trusting());
      const narInfo = await ask(`${urlOf(cache)}/${path.slice("/nix/store/".length).split("-", 1)[0]}.narinfo`);
      const nar = `${urlOf(cache)}/${/^URL: (.*)$/m.exec(narInfo.body)?.[1]}`;
      expect((await ask(nar)).status).toBe(200);

      for (const name of await stored()) {
        if (!before.has(name) && name.includes("@")) await rm(join(bench.blobFolder, "nar", name));
      }

      const { status, body } = await ask(nar);
      expect(status).toBe(404);
      expect(JSON.parse(body)).toMatchObject({ error: true });
    });

    test("a crowd that asks for as many different things does not wait in line", async () => {
      const cache = await bench.makeCache();
      const names = Array.from({ length: 200 }, (_, i) => `${String(i).padStart(32, "0")}.narinfo`);
      const answers = await Promise.all(names.map((name) => ask(`${urlOf(cache)}/${name}`)));
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([404]));
      expect(server.requests.filter((line) => line.includes(cache.name)).length).toBe(names.length);
    });
  },
);
