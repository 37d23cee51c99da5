import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { makeCertificate } from "#test/support/certificate.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { nginxAvailable } from "../e2e/proxy.ts";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { LOG_PATH, nginxConfiguration } from "./support/nginx.ts";
import { MINIMAL, sound, withServer } from "./support/systems.ts";

const DOMAIN = "127.0.0.1";
const START_MS_MAX = 20_000;
/** A path whose narinfo comes with the place of its NAR, `object`. */
const PLACED = "0placed0placed0placed0placed0pla";
const LARGE_BYTES = 1_000_000;
/** As much as nginx reads into its own memory at once by default. */
const NGINX_BUFFER_BYTES = 32_768;

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** Asks through HTTP/2, which nginx speaks to who can. */
async function ask(origin: string, path: string, headers: Record<string, string> = {}, body = ""): Promise<Answer> {
  const session = connectHttp2(origin, { rejectUnauthorized: false });
  // The request fails too, and that is what we look at.
  session.on("error", () => {});
  try {
    const request = session.request({ ":path": path, ":method": body === "" ? "GET" : "POST", ...headers });
    if (body !== "") request.end(body);
    const [answered] = (await once(request, "response")) as [Record<string, string>];
    return { status: Number(answered[":status"]), headers: answered, body: await text(request) };
  } finally {
    session.close();
  }
}

/** The server behind nginx. What it was asked is remembered in `seen`. */
async function answer(request: IncomingMessage, response: ServerResponse, seen: IncomingMessage[]): Promise<void> {
  seen.push(request);
  const { pathname } = new URL(request.url ?? "", "http://server");
  if (pathname.includes("/nar/")) return answerNar(request, response, pathname);
  if (pathname.endsWith(".narinfo")) {
    if (pathname.endsWith(`/${PLACED}.narinfo`)) setPlace(response, "object", "public, immutable");
    response.setHeader("Cache-Control", pathname.includes("open") ? "public, max-age=60" : "private");
    response.end(`answer ${seen.length}`);
    return;
  }
  const received = await text(request);
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ length: received.length }));
}

function setPlace(response: ServerResponse, file: string, cacheControl: string): void {
  response.setHeader("X-Accel-Redirect", `/internal-storage/${file}`);
  response.setHeader("X-Gradient-Nar", file);
  response.setHeader("X-Gradient-Nar-Cache-Control", cacheControl);
  response.setHeader("X-Gradient-Nar-Log", `cache ${file}`);
}

/** Of the caches open, shut (credentials are wanted) and late (it names the file only to the request itself). */
function answerNar(request: IncomingMessage, response: ServerResponse, pathname: string): void {
  const [, cache, file] = /^\/cache\/(open|shut|late)\/nar\/(\w+)\.nar\.zst$/.exec(pathname) ?? [];
  const cacheControl = cache === "open" ? "public, immutable" : "private";
  const named = { ETag: '"ours"', "Cache-Control": cacheControl };
  const place = { ...named, "X-Accel-Redirect": `/internal-storage/${file}` };
  const only = request.headers["x-sendfile-type"] === "X-Accel-Redirect-Only";
  if (cache === "shut" && !request.headers.authorization) response.writeHead(401).end("who are you?");
  else if (file !== "object" && file !== "large") response.writeHead(only ? 204 : 404).end(only ? "" : "no such NAR");
  else if (only) {
    if (cache !== "late") setPlace(response, file, cacheControl);
    response.writeHead(204, cache === "late" ? {} : { "Cache-Control": cacheControl }).end();
  } else if (request.headers["if-none-match"]) response.writeHead(304, named).end();
  else if (cache === "late") response.writeHead(200, place).end();
  else response.writeHead(500).end(`${request.method} came to the server`);
}

/** What the module writes for nginx, with the files of this machine in the places of those of a NixOS. */
describe.skipIf(!canEvaluate() || !nginxAvailable())("nginx as the module configures it", () => {
  const seen: IncomingMessage[] = [];
  let sentFolder: string;
  let server: Server;
  let origin: string;
  /** Without TLS. */
  let plainOrigin: string;
  let nginxPid: number;
  const cleanups: (() => Promise<void> | void)[] = [];

  beforeAll(async () => {
    const folder = await withTemporaryFolder();
    cleanups.push(async () => await folder[Symbol.asyncDispose]());
    // nginx's processes run as another user than root.
    chmodSync(folder.path, 0o755);
    const pages = join(folder.path, "pages");
    mkdirSync(join(pages, "assets"), { recursive: true });
    writeFileSync(join(pages, "index.html"), "<p>the pages</p>");
    writeFileSync(join(pages, "assets/app-1.js"), "1");
    const storage = join(folder.path, "storage");
    mkdirSync(storage);
    writeFileSync(join(storage, "object"), "the NAR");
    writeFileSync(join(storage, "large"), Buffer.alloc(LARGE_BYTES, "NAR"));
    sentFolder = join(folder.path, "sent");
    mkdirSync(sentFolder);
    chmodSync(sentFolder, 0o777);
    const { certificate, key } = makeCertificate(DOMAIN);
    writeFileSync(join(folder.path, "tls.pem"), certificate);
    writeFileSync(join(folder.path, "tls.key"), key);

    server = createServer((request, response) => void answer(request, response, seen));
    const sockets = new WebSocketServer({ server });
    sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(data)));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    cleanups.push(() => void sockets.close());
    cleanups.push(() => void server.closeAllConnections());
    cleanups.push(() => void server.close());

    const { port } = server.address() as AddressInfo;
    const evaluated = evaluateSystems({
      nginx: withServer(
        MINIMAL,
        `services.gradient.domain = lib.mkForce "${DOMAIN}"; services.gradient.port = ${port};`,
      ),
    });
    const [listenPort, plainPort] = [await freePort(), await freePort()];
    const written = nginxConfiguration(sound(evaluated.nginx).nginx, DOMAIN, folder.path)
      .replace("listen 127.0.0.1:8443", `listen 127.0.0.1:${plainPort};\n    listen 127.0.0.1:${listenPort}`)
      .replaceAll(/\/nix\/store\/\S+\/share\/gradient-frontend/g, pages)
      .replaceAll("/var/lib/gradient/storage", storage)
      .replaceAll(LOG_PATH, sentFolder);
    writeFileSync(join(folder.path, "nginx.conf"), written);
    const nginx = spawn("nginx", ["-p", folder.path, "-c", join(folder.path, "nginx.conf"), "-e", "stderr"], {
      stdio: ["ignore", "ignore", "inherit"],
    });
    const ended = once(nginx, "close");
    cleanups.unshift(async () => {
      nginx.kill("SIGTERM");
      await ended;
    });
    nginxPid = nginx.pid as number;
    origin = `https://127.0.0.1:${listenPort}`;
    plainOrigin = `http://127.0.0.1:${plainPort}`;
    const deadline = performance.now() + START_MS_MAX;
    while ((await ask(origin, "/").catch(() => null)) === null) {
      if (performance.now() > deadline) throw new Error("nginx does not answer");
      await sleep(20);
    }
  });

  afterAll(async () => {
    for (const cleanup of cleanups) await cleanup();
  });

  test("the API is reached, with the client's address behind whatever it says of itself", async () => {
    const answer = await ask(origin, "/api/v1/health", { "x-forwarded-for": "10.1.2.3" });
    expect(answer.status).toBe(200);
    expect(seen.at(-1)?.headers).toMatchObject({
      host: DOMAIN,
      "x-forwarded-for": "10.1.2.3, 127.0.0.1",
      "x-forwarded-proto": "https",
      "x-sendfile-type": "X-Accel-Redirect",
    });
  });

  test("bodies pass whatever their size", async () => {
    const answer = await ask(origin, "/api/v1/upload", {}, "x".repeat(3 * 1024 * 1024));
    expect(JSON.parse(answer.body)).toEqual({ length: 3 * 1024 * 1024 });
  });

  test("each path of the pages is answered with them, and the server's own are not", async () => {
    for (const path of ["/", "/organization/acme"]) {
      const { status, headers, body } = await ask(origin, path);
      expect({ status, body }).toEqual({ status: 200, body: "<p>the pages</p>" });
      expect(headers["cache-control"]).toBe("no-cache");
    }
    expect((await ask(origin, "/assets/app-1.js")).headers["cache-control"]).toContain("immutable");
    expect((await ask(origin, "/assets/absent.js")).status).toBe(404);
    expect((await ask(origin, "/metrics")).status).toBe(404);
  });

  test("nginx sends what the server names, under the server's tag, and nobody else reaches it", async () => {
    const { status, headers, body } = await ask(origin, "/cache/open/nar/object.nar.zst");
    expect({ status, body }).toEqual({ status: 200, body: "the NAR" });
    expect(headers).toMatchObject({
      etag: '"object"',
      "cache-control": "public, immutable",
      "content-type": "application/x-nix-nar",
      "content-length": "7",
    });
    const part = await ask(origin, "/cache/open/nar/object.nar.zst", { range: "bytes=4-6" });
    expect([part.status, part.body]).toEqual([206, "NAR"]);
    expect((await ask(origin, "/internal-storage/object")).status).toBe(404);
    const located = await ask(origin, "/gradient-located");
    expect([located.status, located.body]).toEqual([204, ""]);
  });

  const processes = (): string[] =>
    readFileSync(`/proc/${nginxPid}/task/${nginxPid}/children`, "utf8").trim().split(" ");

  /** How often nginx has read a file, or had one sent (proc(5), io). Null where that is not ours to see. */
  const fileReads = (): number | null => {
    try {
      return processes()
        .map((pid) => Number(/^syscr: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))?.[1]))
        .reduce((sum, calls) => sum + calls, 0);
    } catch {
      return null;
    }
  };

  /** The files of nginx's memory that it has open. Null where that is not ours to see. */
  const openNarInfos = (): number | null => {
    try {
      const open = processes().flatMap((pid) => readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`));
      return open.filter((fd) => /\/gradient\/[0-9a-f]{32}$/.test(readlinkSync(fd))).length;
    } catch {
      return null;
    }
  };

  test("a narinfo that was sent of memory stays open for who asks next", async ({ skip }) => {
    skip(openNarInfos() === null, "skipped: what nginx's processes have open cannot be seen here");
    const anyOpen = async () => {
      for (let i = 0; i < 2; i++) await (await fetch(`${plainOrigin}/cache/open/0kept.narinfo`)).text();
      // Any other file is closed by then.
      await sleep(100);
      return openNarInfos();
    };
    // A second may pass between the two on a busy machine.
    await expect.poll(anyOpen).toBeGreaterThan(0);
  });

  test("without TLS the kernel sends a NAR, and its bytes do not pass through nginx", async ({ skip }) => {
    const before = fileReads();
    skip(before === null, "skipped: the system calls of nginx's processes cannot be counted here");
    // On the same connection, which narinfos go out on otherwise.
    await (await fetch(`${plainOrigin}/cache/open/0open.narinfo`)).text();
    const response = await fetch(`${plainOrigin}/cache/open/nar/large.nar.zst`);
    expect((await response.arrayBuffer()).byteLength).toBe(LARGE_BYTES);
    expect(Number(fileReads()) - Number(before)).toBeLessThan(LARGE_BYTES / NGINX_BUFFER_BYTES / 3);
  });

  test("where a public NAR lies is asked once a second, and of who shows credentials each time", async () => {
    const url = "/cache/open/nar/object.nar.zst";
    const asked = async (headers: Record<string, string>) => {
      const before = seen.length;
      const answers = await Promise.all(Array.from({ length: 5 }, async () => await ask(origin, url, headers)));
      expect(answers.map(({ body }) => body)).toEqual(answers.map(() => "the NAR"));
      return seen.length - before;
    };
    await ask(origin, url);

    expect(await asked({})).toBeLessThan(5);
    expect(await asked({ authorization: "Bearer token" })).toBe(5);
  });

  test("no header of a client is taken for the place of a file", async () => {
    for (const value of [" /internal-storage/object?", "/internal-storage/object?", "  /internal-storage/object? "]) {
      for (const name of ["if-none-match", "x-accel-redirect", "x-sendfile-type"]) {
        const { body } = await ask(origin, "/cache/shut/nar/object.nar.zst", { [name]: value });
        expect([name, value, body]).toEqual([name, value, "who are you?"]);
      }
    }
  });

  test("when the server names no NAR its own words are the answer", async () => {
    const own = { authorization: "Bearer token" };
    const absent = await ask(origin, "/cache/open/nar/absent.nar.zst");
    expect([absent.status, absent.body]).toEqual([404, "no such NAR"]);
    const shut = "/cache/shut/nar/object.nar.zst";
    expect((await ask(origin, shut, own)).body).toBe("the NAR");
    const late = await ask(origin, "/cache/late/nar/object.nar.zst");
    expect([late.status, late.body, late.headers.etag]).toEqual([200, "the NAR", '"ours"']);
    const stranger = await ask(origin, shut);
    expect([stranger.status, stranger.body]).toEqual([401, "who are you?"]);

    const url = "/cache/open/nar/object.nar.zst";
    expect((await ask(origin, url, { "if-none-match": '"ours"' })).status).toBe(304);
    const uploaded = "a NAR".repeat(1_000_000);
    const answer = await ask(origin, url, { "content-length": String(uploaded.length) }, uploaded);
    expect(answer.body).toBe("POST came to the server");
  });

  const NARINFO = `/cache/open/${PLACED}.narinfo`;
  const PLACED_NAR = `/cache/open/nar/object.nar.zst?hash=${PLACED}`;

  /** Whether one of some tries went as it should: on a busy machine a second may pass between two requests. */
  async function anyTry(attempt: () => Promise<boolean>): Promise<boolean> {
    for (let i = 0; i < 10; i++) if (await attempt()) return true;
    return false;
  }

  test("a NAR whose narinfo nginx has just fetched is sent without a word to the server", async () => {
    const isSilent = await anyTry(async () => {
      const narInfo = await ask(origin, NARINFO);
      expect(narInfo.body).toMatch(/^answer /);
      expect(Object.keys(narInfo.headers).filter((name) => /^x-(?:accel|gradient)/.test(name))).toEqual([]);
      const before = seen.length;
      const { status, headers, body } = await ask(origin, PLACED_NAR);
      expect({ status, body }).toEqual({ status: 200, body: "the NAR" });
      expect(headers).toMatchObject({ etag: '"object"', "cache-control": "public, immutable" });
      return seen.length === before;
    });
    expect(isSilent).toBe(true);
    expect(seen.findLast(({ url }) => url === NARINFO)?.headers["x-sendfile-type"]).toBe("X-Accel-Redirect-Also");
  });

  test("the narinfo is asked for where nginx has none, for the NAR and for who asks for it next", async () => {
    const isKept = await anyTry(async () => {
      await sleep(1_100);
      const before = seen.length;
      const head = await fetch(`${plainOrigin}${PLACED_NAR}`, { method: "HEAD" });
      expect([head.status, head.headers.get("content-length")]).toEqual([200, "7"]);
      expect(seen[before]).toMatchObject({ method: "GET", url: NARINFO });
      expect(seen[before]?.headers["x-sendfile-type"]).toBe("X-Accel-Redirect-Only");
      const answered = `answer ${seen.length}`;
      return (await (await fetch(`${plainOrigin}${NARINFO}`)).text()) === answered;
    });
    expect(isKept).toBe(true);
  });

  test("who names another file than the path has, or is no plain reader, is answered by the server", async () => {
    await ask(origin, NARINFO);
    const other = await ask(origin, PLACED_NAR.replace("object", "large"));
    expect(other.body).toBe("GET came to the server");
    const known = await ask(origin, PLACED_NAR, { "if-none-match": "*" });
    expect([known.status, known.headers.etag]).toEqual([304, '"ours"']);
    for (const query of ["?hash=", `?hash=${PLACED}0`, `?hash=../${PLACED.slice(3)}`, `?hash=${PLACED}&x`, "?x"]) {
      expect([query, (await ask(origin, `/cache/open/nar/object.nar.zst${query}`)).body]).toEqual([query, "the NAR"]);
    }
  });

  /** What nginx wrote down for the server. */
  function sent(): string[] {
    const files = readdirSync(sentFolder).toSorted();
    return files.flatMap((name) => readFileSync(join(sentFolder, name), "utf8").split("\n").slice(0, -1));
  }

  test("what nginx sends is written down for the server, line by line, and nothing else", async () => {
    const names = { "if-none-match": "*" };
    const before = sent().length;
    await ask(origin, NARINFO);
    for (let i = 0; i < 3; i++) await ask(origin, PLACED_NAR);
    await ask(origin, "/cache/open/nar/large.nar.zst");
    for (const path of [PLACED_NAR, "/cache/open/nar/object.nar.zst"]) {
      await ask(origin, path, names);
      await fetch(`${plainOrigin}${path}`, { method: "HEAD" });
    }
    await ask(origin, "/cache/open/nar/absent.nar.zst");
    for (const file of ["absent", "large"]) await ask(origin, PLACED_NAR.replace("object", file));
    await ask(origin, `/cache/shut/../open/nar/object.nar.zst?hash=${PLACED}`);
    await ask(origin, "/cache/late/nar/object.nar.zst");
    await ask(origin, "/cache/shut/nar/object.nar.zst", { authorization: "Bearer token" });
    expect(sent().slice(before)).toEqual([...Array(3).fill("cache object"), "cache large", "cache object"]);
    const tens = readdirSync(sentFolder).map((name) => Number(/^sent-(\d+)$/.exec(name)?.[1]));
    expect(tens.filter((ten) => !(Math.abs(ten - Date.now() / 10_000) < 100))).toEqual([]);
  });

  test("only what the server calls public is answered of memory, and only to who shows no credentials", async () => {
    const open = await ask(origin, "/cache/main/0open.narinfo");
    expect(open.status).toBe(200);
    const before = seen.length;
    // A second may pass between the two on a busy machine: some try of several is answered of memory.
    const again = await Promise.all(
      Array.from({ length: 5 }, async () => await ask(origin, "/cache/main/0open.narinfo")),
    );
    expect(seen.length).toBeLessThan(before + again.length);

    const own = { authorization: "Bearer token" };
    const [first, second] = [
      await ask(origin, "/cache/main/0open.narinfo", own),
      await ask(origin, "/cache/main/0open.narinfo", own),
    ];
    expect(first.body).not.toBe(second.body);
    const closed = [await ask(origin, "/cache/main/0shut.narinfo"), await ask(origin, "/cache/main/0shut.narinfo")];
    expect(closed[0]?.body).not.toBe(closed[1]?.body);
  });

  test.each(["/proto", "/cache/main/proto"])("a WebSocket to %s passes", async (path) => {
    const socket = new WebSocket(`${origin.replace("https", "wss")}${path}`, { rejectUnauthorized: false });
    await once(socket, "open");
    socket.send("hello");
    const [answer] = (await once(socket, "message")) as [Buffer];
    expect(answer.toString()).toBe("hello");
    socket.terminate();
  });
});
