import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { chmod, cp, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { connect as connectTls } from "node:tls";
import { createZstdDecompress } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { outputOf } from "#test/e2e/builds.ts";
import { commitFlake } from "#test/e2e/flake.ts";
import { addProject, CACHE, freePort, type Gradient, publicKey, withGradient } from "#test/e2e/gradient.ts";
import { nginxAvailable } from "#test/e2e/proxy.ts";
import { nixAvailable, nixOutput, runNix } from "#test/support/nix.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { canEvaluate } from "./support/evaluate.ts";
import {
  type GeneratedProxy,
  generatedSystems,
  type ProxyKind,
  startGenerated,
  writeCertificate,
} from "./support/generated-proxy.ts";
import { largeNar, largePath } from "./support/large-nar.ts";
import { memoryGrowth } from "./support/memory-growth.ts";

const MIB = 1024 * 1024;
/** GRADIENT_TEST_UPLOAD_MIB=1024 is the long version. */
const UPLOAD_MIB = Number(process.env.GRADIENT_TEST_UPLOAD_MIB ?? 64);
/** What server and proxy may grow by, whatever the size: 6 MiB were seen with 64 MiB, and 13 with 1 GiB. */
const GROWTH_BYTES_MAX = 48 * MIB;
/** A client elsewhere: what it says of itself no server believes. */
const CLIENT_ADDRESS = "127.0.0.2";
const FRONTEND = join(import.meta.dirname, "../../nixos/packages/frontend.html");
const WAIT = { timeout: 30_000 };

const nix = nixAvailable();
const ready = nix.ok && canEvaluate();
const LACKS: Record<ProxyKind, string | null> = {
  nginx: !ready ? "there is no Nix" : nginxAvailable() ? null : "there is no nginx",
  caddy: !ready ? "there is no Nix" : spawnSync("caddy", ["version"]).status === 0 ? null : "there is no caddy",
};

const flakeOf = (name: string) => `{ outputs = { self }: { packages.x86_64-linux.thing = derivation {
  name = "${name}"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo built ${name} > $out" ];
}; }; }
`;

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: string;
}

/** Server and worker as they are, started once, behind each of the proxies. */
describe.skipIf(LACKS.nginx !== null && LACKS.caddy !== null)("behind the proxies that the module configures", () => {
  let gradient: Gradient;
  let authority: string;
  let certificate: string;
  const proxies = {} as Record<ProxyKind, GeneratedProxy>;
  const sessions: Partial<Record<ProxyKind, ClientHttp2Session>> = {};
  const started = new AsyncDisposableStack();

  beforeAll(async () => {
    const folder = started.use(await withTemporaryFolder());
    await chmod(folder.path, 0o711);
    const kinds = (["nginx", "caddy"] as const).filter((kind) => LACKS[kind] === null);
    const tls = await writeCertificate(folder.path);
    certificate = tls.certificate;
    authority = join(folder.path, "tls.pem");
    const ports = { nginx: await freePort(), caddy: await freePort() };
    const serverPort = await freePort();
    const systems = generatedSystems(serverPort);
    // As tmpfiles makes it on a NixOS, where nginx is of our group, as it is here.
    const logPath = join(folder.path, "sent");
    await mkdir(logPath);
    await chmod(logPath, 0o2770);
    const own = systems.nginx.services["gradient-server"]?.environment ?? {};
    gradient = started.use(
      await withGradient({
        GRADIENT_PORT: String(serverPort),
        GRADIENT_NGINX_STORAGE_LOCATION: own.GRADIENT_NGINX_STORAGE_LOCATION ?? "",
        GRADIENT_NGINX_LOG_PATH: logPath,
        GRADIENT_USE_TLS: own.GRADIENT_USE_TLS ?? "",
        GRADIENT_SERVE_URL: `https://127.0.0.1:${ports[kinds[0] as ProxyKind]}`,
        GRADIENT_MAX_NAR_UPLOAD_SIZE: String(4 * 1024 * MIB),
        NODE_EXTRA_CA_CERTS: authority,
      }),
    );
    // As tmpfiles makes them on a NixOS: who is of the group may pass through.
    await chmod(gradient.folder, 0o711);
    await chmod(join(gradient.folder, "server"), 0o710);

    const pages = join(folder.path, "pages");
    await mkdir(pages);
    await chmod(pages, 0o755);
    await cp(FRONTEND, join(pages, "index.html"));
    for (const kind of kinds) {
      const place = join(folder.path, kind);
      await mkdir(place);
      await writeFile(join(place, "tls.pem"), tls.certificate);
      await writeFile(join(place, "tls.key"), tls.key, { mode: 0o600 });
      const places = { folder: place, port: ports[kind], serverPort, storage: gradient.storage, logPath, pages };
      proxies[kind] = started.use(await startGenerated(kind, systems[kind], places));
    }
  }, 120_000);
  afterAll(async () => {
    for (const session of Object.values(sessions)) session.close();
    await started.disposeAsync();
  });

  /** From an address that no server trusts. Proxies end connections that were idle or had their share of requests. */
  function sessionOf(kind: ProxyKind): ClientHttp2Session {
    const open = sessions[kind];
    if (open && !open.closed && !open.destroyed) return open;
    const { origin } = proxies[kind];
    const socket = connect({ host: "127.0.0.1", port: Number(new URL(origin).port), localAddress: CLIENT_ADDRESS });
    const secured = connectTls({ socket, host: "127.0.0.1", ca: certificate, ALPNProtocols: ["h2"] });
    const session = connectHttp2(origin, { createConnection: () => secured });
    sessions[kind] = session;
    return session;
  }

  function begin(kind: ProxyKind, path: string, headers: Record<string, string> = {}): ClientHttp2Stream {
    return sessionOf(kind).request({ ":path": path, ...headers }, { endStream: false });
  }

  async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
    const [headers] = (await once(stream, "response")) as [Record<string, string>];
    return { status: Number(headers[":status"]), headers, body: await text(stream) };
  }

  async function ask(
    kind: ProxyKind,
    path: string,
    { body = "", ...headers }: Record<string, string> = {},
  ): Promise<Answer> {
    const stream = begin(kind, path, { ":method": body === "" ? "GET" : "POST", ...headers });
    stream.end(body);
    return await answerOf(stream);
  }

  const signedIn = () => ({ authorization: `Bearer ${gradient.api.token}` });

  async function privateCache(): Promise<string> {
    const name = `own-${Math.random().toString(36).slice(2)}`;
    await gradient.api.request("PUT", "/caches", { name, display_name: name, public: false });
    return name;
  }

  describe.each(["nginx", "caddy"] as const)("%s", (kind) => {
    const lack = LACKS[kind];

    test.skipIf(lack)("the API answers, and knows from where it is asked whatever the client says", async () => {
      const credentials = JSON.stringify({ loginname: "ada", password: "Corr3ct-Horse!" });
      const json = { "content-type": "application/json", "user-agent": `asks ${kind}`, body: credentials };
      const answer = await ask(kind, "/api/v1/auth/basic/login", { ...json, "x-forwarded-for": "10.9.8.7" });
      expect(answer.status).toBe(200);
      const events = await gradient.api.request<{ items: { ip: string; user_agent: string }[] }>(
        "GET",
        "/user/audit-log",
      );
      const recorded = events.items.filter(({ user_agent }) => user_agent === `asks ${kind}`);
      expect(recorded.map(({ ip }) => ip)).toEqual([CLIENT_ADDRESS]);
    });

    test.skipIf(lack)("every other path is the web interface's, but what is not for everybody", async () => {
      const page = await readFile(FRONTEND, "utf8");
      for (const path of ["/", "/organization/acme"]) {
        const { status, body, headers } = await ask(kind, path);
        expect({ status, cached: headers["cache-control"] }).toEqual({ status: 200, cached: "no-cache" });
        expect(body).toBe(page);
      }
      for (const path of ["/api/v1/nothing", "/cache/nothing/nix-cache-info", "/metrics"]) {
        const { status, body } = await ask(kind, path);
        expect([path, status]).toEqual([path, path.startsWith("/cache") ? 401 : 404]);
        expect(body).not.toBe(page);
      }
    });

    test.skipIf(lack)(
      "a worker builds through it, and Nix gets the result by HTTP/2",
      { timeout: 120_000 },
      async () => {
        await gradient.worker.stop();
        gradient.workerEnv.GRADIENT_WORKER_SERVER_URL = `${proxies[kind].origin.replace("https", "wss")}/proto`;
        await gradient.startWorker();
        const url = await commitFlake(join(gradient.folder, kind), { "flake.nix": flakeOf(`by-${kind}`) }, "A commit");
        const evaluation = await gradient.api.evaluate(await addProject(gradient.api, kind, url, "packages.*"));
        expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
        await gradient.worker.waitFor(`"name":"by-${kind}","status":"built"`);
        const path = await outputOf(gradient, evaluation, `by-${kind}`);

        const cache = await privateCache();
        const netrc = join(gradient.folder, "netrc");
        await writeFile(netrc, `machine 127.0.0.1 login x password ${gradient.api.token}\n`);
        const root = join(gradient.folder, `store-${kind}`);
        const env = {
          ...gradient.daemon.env,
          NIX_REMOTE: "",
          NIX_SSL_CERT_FILE: authority,
          NIX_CONFIG: "connect-timeout = 60",
          HOME: root,
        };
        const keys = async (name: string) => await gradient.api.request<string>("GET", `/caches/${name}/public-key`);
        const copy = async (key: string, ...places: string[]) => {
          const options = ["--option", "trusted-public-keys", key, "--option", "netrc-file", netrc];
          const { code, stderr } = await runNix(["nix", "copy", ...options, ...places, path], {
            ...env,
            // Nix remembers the narinfos that it has put, which are not those that the cache makes of them.
            XDG_CACHE_HOME: join(root, `memory${places.join("").length}`),
          });
          if (code !== 0) throw new Error(stderr);
        };
        await copy(await publicKey(gradient.api), "--from", `${proxies[kind].origin}/cache/${CACHE}`, "--to", root);
        await copy("", "--from", root, "--to", `${proxies[kind].origin}/cache/${cache}`);
        await copy(await keys(cache), "--from", `${proxies[kind].origin}/cache/${cache}`, "--to", `${root}-back`);
        expect(await readFile(join(`${root}-back`, path), "utf8")).toBe(`built by-${kind}\n`);
        expect(await nixOutput(["nix-store", "--store", `${root}-back`, "-qR", path], env)).toBe(path);

        expect((await ask(kind, `/cache/${cache}/nix-cache-info`)).status).toBe(401);
        if (kind === "nginx") {
          const lines = (await proxies.nginx.requests()).filter((line) => line.includes(`/${cache}/`));
          expect(lines.filter((line) => line.startsWith("HTTP/2.0 PUT")).length).toBeGreaterThan(1);
          expect(lines.filter((line) => !line.startsWith("HTTP/2.0"))).toEqual([]);
        }
      },
    );

    test.skipIf(lack)(`${UPLOAD_MIB} MiB go in and out, and neither holds them`, { timeout: 600_000 }, async () => {
      const cache = await privateCache();
      const put = async (mib: number) => {
        const path = await largePath(`large-${kind}-${mib}`, mib * MIB);
        const upload = begin(kind, `/cache/${cache}/${path.narName}`, { ":method": "PUT", ...signedIn() });
        const answered = answerOf(upload);
        await pipeline(Readable.from(largeNar(path.bytes)), upload);
        expect(await answered).toMatchObject({ status: 200 });
        const described = begin(kind, `/cache/${cache}/${path.hash}.narinfo`, { ":method": "PUT", ...signedIn() });
        described.end(path.narInfo);
        expect(await answerOf(described)).toMatchObject({ status: 200 });
        return path;
      };
      const get = async ({ hash, sha256 }: Awaited<ReturnType<typeof put>>) => {
        const narInfo = await ask(kind, `/cache/${cache}/${hash}.narinfo`, signedIn());
        const nar = `/cache/${cache}/${/^URL: (.+)$/m.exec(narInfo.body)?.[1]}`;
        const isZstd = nar.endsWith(".zst");
        const stream = begin(kind, nar, { ":method": "GET", ...signedIn() });
        stream.end();
        const read = createHash("sha256");
        await pipeline([stream, ...(isZstd ? [createZstdDecompress()] : []), read]);
        expect(read.digest("hex")).toBe(sha256);
        return nar;
      };
      // What a first one makes both programs load and grow by is not the size's.
      await get(await put(8));
      const growth = await memoryGrowth([gradient.server.pid, proxies[kind].pid]);
      const nar = await get(await put(UPLOAD_MIB));
      expect(await growth()).toBeLessThan(GROWTH_BYTES_MAX);

      if (kind === "nginx") {
        const line = (await proxies.nginx.requests()).find((request) => request.includes(`GET ${nar} 200`));
        const [object = "nothing"] = /\/internal-storage\/\S+/.exec(line ?? "") ?? [];
        const file = await stat(join(gradient.storage, object.replace("/internal-storage/", "")));
        expect(file.size).toBeGreaterThan(UPLOAD_MIB * MIB);
        expect((await ask("nginx", object)).status).toBe(404);
      }
    });
  });

  test.skipIf(LACKS.nginx)(
    "nginx's memory answers for who may see everything, and keeps nothing of private caches",
    async () => {
      const path = await largePath("small", 100);
      const bearer = signedIn();
      const cache = await privateCache();
      for (const name of [CACHE, cache]) {
        for (const [file, body] of [
          [path.narName, Buffer.concat([...largeNar(path.bytes)])],
          [`${path.hash}.narinfo`, path.narInfo],
        ] as const) {
          const stream = begin("nginx", `/cache/${name}/${file}`, { ":method": "PUT", ...bearer });
          stream.end(body);
          expect((await answerOf(stream)).status).toBe(200);
        }
      }
      const [open, shut] = [`/cache/${CACHE}/${path.hash}.narinfo`, `/cache/${cache}/${path.hash}.narinfo`];
      const hits = async (name: string) =>
        (await proxies.nginx.requests()).filter((line) => line.includes(`GET ${name} 200 HIT`)).length;
      await expect
        .poll(async () => {
          expect((await ask("nginx", open)).status).toBe(200);
          expect((await ask("nginx", shut, bearer)).status).toBe(200);
          expect((await ask("nginx", shut)).status).toBe(401);
          return await hits(open);
        }, WAIT)
        .toBeGreaterThan(2);
      expect(await hits(shut)).toBe(0);
    },
  );
});
