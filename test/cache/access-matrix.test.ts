import { symlink } from "node:fs/promises";
import { Agent, request as httpRequest } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CACHE_ROLE, ORGANIZATION_ROLE } from "#core/domain/permissions.ts";
import { AttemptKind, AttemptOutcome, BuildStatus } from "#core/domain/states.ts";
import { toBase64, utf8 } from "#core/lib/bytes.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import { debugMember } from "#core/nix/debug-info.ts";
import { storePathBaseName, storePathHash } from "#core/nix/store-path.ts";
import { indexDebugInfo } from "#core/services/debug-info.ts";
import { NarListings } from "#core/services/nar-listings.ts";
import { readConfig } from "#runtime/node/config.ts";
import { createLoggers } from "#runtime/node/logger.ts";
import { startServer } from "#runtime/node/server.ts";
import { insertAttempt, writeLogRows } from "#test/support/rows.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { addOrganization, JWT_SECRET, type KeyOptions, makePerson } from "./actors.ts";
import { type CacheBench, newId, type StoredPath, type TestCache, withCacheBench } from "./support.ts";
import { offerTree } from "./trees.ts";

/** What an actor of this kind finds of a cache that is not public: everything, or what a name without a cache gets. */
type Finds = "all" | 401 | 404;

interface Asker {
  readonly finds: Finds;
  readonly headers: Readonly<Record<string, string>>;
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: string;
}

const BUILD_ID = `ab${"cd".repeat(19)}`;
const ELSEWHERE = { "x-forwarded-for": "192.0.2.7" };
const AT_HOME = { "x-forwarded-for": "198.51.100.7" };

const stack = new AsyncDisposableStack();
const agent = new Agent({ keepAlive: true, maxSockets: 16 });
let bench: CacheBench;
let url: string;
let closed: TestCache;
let open: TestCache;
let path: StoredPath;
const askers = new Map<string, Asker>();

beforeAll(async () => {
  bench = stack.use(await withCacheBench());
  const folder = stack.use(await withTemporaryFolder());
  await symlink(bench.blobFolder, join(folder.path, "storage"));
  [closed, open] = [await bench.makeCache({ name: "closed", public: false }), await bench.makeCache({ name: "open" })];
  path = await offerTree(bench, closed, "app-debug", {
    bin: { app: "#!", link: { link: "app" } },
    lib: { debug: { ".build-id": { ab: { [`${BUILD_ID.slice(2)}.debug`]: "x" } } } },
  });
  await bench.makeCache({ name: "asleep", active: false });
  await addAskers();
  await addBuild("acme-private", path);
  const index = { db: bench.deps.db, log: bench.deps.log, listings: new NarListings(bench.deps) };
  await indexDebugInfo(index, new AbortController().signal);
  url = await startOn(folder.path);
});
afterAll(async () => {
  await stack.disposeAsync();
});

async function startOn(base: string): Promise<string> {
  const { config } = readConfig({ GRADIENT_BASE_PATH: base, GRADIENT_PORT: "0" });
  const database = { ...config.database, url: bench.database.url };
  const secrets = { jwt: JWT_SECRET, crypt: JWT_SECRET };
  const server = await startServer(
    { ...config, database, secrets },
    createLoggers(config.logLevels, { write: () => {} }),
  );
  stack.defer(() => server.close());
  return server.url;
}

async function addAskers(): Promise<void> {
  const { db } = bench.deps;
  const [owner, viewer, writer, member, writing, stranger, root, off] = [
    await makePerson(bench, "owner"),
    await makePerson(bench, "viewer"),
    await makePerson(bench, "writer"),
    await makePerson(bench, "member"),
    await makePerson(bench, "writing"),
    await makePerson(bench, "stranger"),
    await makePerson(bench, "root", { superuser: true }),
    await makePerson(bench, "off"),
  ];
  const roles = [
    [owner, CACHE_ROLE.Admin],
    [viewer, CACHE_ROLE.View],
    [writer, CACHE_ROLE.Write],
    [off, CACHE_ROLE.View],
  ] as const;
  for (const [{ id: user_id }, role_id] of roles) {
    await db.insertInto("cache_member").values({ cache_id: closed.id, user_id, role_id }).execute();
  }
  const other = await bench.makeCache({ name: "other", public: false });
  await db
    .insertInto("cache_member")
    .values({ cache_id: other.id, user_id: viewer.id, role_id: CACHE_ROLE.View })
    .execute();
  const acme = await addOrganization(bench, "acme-private", {
    members: { [member.id]: ORGANIZATION_ROLE.View, [viewer.id]: ORGANIZATION_ROLE.View },
  });
  const writes = await addOrganization(bench, "writes", { members: { [writing.id]: ORGANIZATION_ROLE.Admin } });
  await addOrganization(bench, "apart", { members: { [member.id]: ORGANIZATION_ROLE.View } });
  await bench.subscribe(acme, closed.id, 1);
  await bench.subscribe(writes, closed.id, 2);

  const basic = (password: string, user = "x") => ({ authorization: `Basic ${toBase64(utf8(`${user}:${password}`))}` });
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const add = (name: string, finds: Finds, headers: Readonly<Record<string, string>>) =>
    askers.set(name, { finds, headers });
  const key = async (options: KeyOptions) => basic(await viewer.key(options));
  add("nobody", 401, {});
  add("a session as a cookie", 401, { cookie: `jwt_token=${viewer.session}` });
  add("a token that is none", 401, bearer("nonsense"));
  add("a password that is none", 401, basic(""));
  add("an authorization that is none", 401, { authorization: "Digest x" });
  add("a stranger", 404, bearer(stranger.session));
  add("a stranger's key", 404, basic(await stranger.key()));
  add("a superuser", 404, bearer(root.session));
  add("a member of an organization that only writes", 404, bearer(writing.session));
  add("the owner", "all", bearer(owner.session));
  add("a View member by Bearer", "all", bearer(viewer.session));
  add("a View member by Basic", "all", basic(viewer.session));
  add("a Write member", "all", bearer(writer.session));
  add("a member of an organization that reads", "all", bearer(member.session));
  add("a key", "all", await key({}));
  add("a key by Bearer", "all", bearer(await viewer.key()));
  add("a key under the other prefix", "all", basic((await viewer.key()).replace(/^GRAD/, "grd_")));
  add("a key pinned to the cache", "all", await key({ cache: "closed", permissions: ["viewCache", "readStore"] }));
  add("a key pinned to the cache that reads no store", 404, await key({ cache: "closed", permissions: ["viewCache"] }));
  add("a key pinned to another cache", 404, await key({ cache: "other", permissions: ["viewCache", "readStore"] }));
  add("a key pinned to an organization that reads", "all", basic(await member.key({ organization: "acme-private" })));
  add("a key pinned to an organization apart", 404, basic(await member.key({ organization: "apart" })));
  add("a key from where it may be used", "all", { ...(await key({ allowedIps: ["198.51.100.0/24"] })), ...AT_HOME });
  add("a key from elsewhere", 401, { ...(await key({ allowedIps: ["198.51.100.0/24"] })), ...ELSEWHERE });
  add("an expired key", 401, await key({ ended: "expired" }));
  add("a revoked key", 401, await key({ ended: "revoked" }));
  add("a key with another ending", 401, basic(`${(await viewer.key()).slice(0, -1)}-`));
  add("a deactivated member", 401, bearer(off.session));
  await db.updateTable("user_account").set({ active: false }).where("id", "=", off.id).execute();
}

/** A build of the organization that made the path, with a log. */
async function addBuild(organization: string, made: StoredPath): Promise<void> {
  const { db } = bench.deps;
  const { id: organizationId } = await db
    .selectFrom("organization")
    .select("id")
    .where("name", "=", organization)
    .executeTakeFirstOrThrow();
  const buildId = newId();
  const drv_path = derivationOf(made);
  const build = { id: buildId, organization_id: organizationId, drv_path, name: "app", system: "x86_64-linux" };
  await db
    .insertInto("build")
    .values({ ...build, status: BuildStatus.Completed })
    .execute();
  const store_path = storePathBaseName(made.storePath);
  await db.insertInto("build_output").values({ build_id: buildId, name: "out", store_path }).execute();
  const attemptId = await insertAttempt(db, { organizationId, buildId, ranMs: 5 });
  await writeLogRows(db, attemptId, utf8(`log of ${organization}\n`), utf8("for its members\n"));
  await db
    .updateTable("attempt")
    .set({ kind: AttemptKind.Build, outcome: AttemptOutcome.Built })
    .where("id", "=", attemptId)
    .execute();
}

function derivationOf({ storePath }: StoredPath): string {
  return `${storePathHash(storePath)}-app.drv`;
}

/** Every address of a cache at which there is something, if there is such a cache. */
function addresses(): string[] {
  const hash = storePathHash(path.storePath);
  const file = encodeBase32(path.nar.fileHash.digest);
  return [
    "nix-cache-info",
    "nix-cache-info?json",
    "gradient-cache-info",
    `${hash}.narinfo`,
    `${hash}.narinfo?json`,
    `nar/${file}.nar.zst`,
    `${hash}.ls`,
    `ls/${hash}`,
    `serve/${hash}`,
    `serve/${hash}/bin/app`,
    `serve/${hash}/bin/link`,
    `serve/${hash}/${debugMember(BUILD_ID)}`,
    `debuginfo/${BUILD_ID}`,
    `debuginfo/${BUILD_ID}.debug`,
    `log/${derivationOf(path)}`,
  ];
}

/** Addresses at which there is nothing. */
function absences(): string[] {
  const hash = "0".repeat(32);
  return [
    `${hash}.narinfo`,
    `nar/${"0".repeat(52)}.nar.zst`,
    `nar/upstream/01890000-0000-7000-8000-000000000000/nar/x.nar.xz`,
    `${hash}.ls`,
    `serve/${hash}/bin/app`,
    `serve/${storePathHash(path.storePath)}/bin/other`,
    `debuginfo/${"0".repeat(40)}`,
    `log/${hash}-app.drv`,
    `realisations/sha256:${"0".repeat(64)}!out.doi`,
  ];
}

/** As the bytes come, but for the date. */
function ask(target: string, headers: Readonly<Record<string, string>>, method = "GET"): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(`${url}${target}`, { method, agent, headers: { ...headers } }, async (response) => {
      const { date: _, ...rest } = response.headers;
      resolve({ status: response.statusCode ?? 0, headers: rest, body: (await buffer(response)).toString("latin1") });
    });
    sent.on("error", reject).end();
  });
}

/** What is wrong with what this one gets at one address. */
async function judge({ finds, headers }: Asker, address: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const method of ["GET", "HEAD"]) {
    const answer = await ask(`/cache/closed/${address}`, headers, method);
    const nothing = await ask(`/cache/nothing/${address}`, headers, method);
    const asleep = await ask(`/cache/asleep/${address}`, headers, method);
    const isFound = [200, 307].includes(answer.status);
    // Who may see the log is another matter.
    const maySee = address === `log/${derivationOf(path)}` ? isFound : addresses().includes(address);
    if (isFound !== (finds === "all" && maySee)) wrong.push(`${method} ${address} is ${answer.status}`);
    if (!isFound && answer.status !== (finds === "all" ? 404 : finds)) wrong.push(`${method} ${address} is not hidden`);
    if (!isFound && !isSame(answer, nothing)) wrong.push(`${method} ${address} differs from nothing`);
    if (isFound && answer.headers["cache-control"] !== "private, no-store") wrong.push(`${address} may be kept`);
    if (!isSame(asleep, nothing)) wrong.push(`${method} ${address} of an inactive cache differs from nothing`);
  }
  return wrong;
}

function isSame(one: Answer, other: Answer): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

describe("a cache that is not public", () => {
  test("is for its readers, and for all others not there: byte for byte, at every address", async () => {
    const wrong: string[] = [];
    for (const [name, asker] of askers) {
      const asked = [...addresses(), ...absences()].map((address) => judge(asker, address));
      for (const finding of (await Promise.all(asked)).flat()) wrong.push(`${name}: ${finding}`);
    }
    expect(wrong).toEqual([]);
    expect(askers.size).toBeGreaterThan(25);
  });

  test("asks who sends nothing for credentials, in one way for every name", async () => {
    const answer = await ask("/cache/closed/nix-cache-info", {});
    expect([answer.status, answer.headers["www-authenticate"]]).toEqual([401, 'Basic realm="gradient"']);
  });

  test("is not read through a public one, nor by the hash of a file", async () => {
    const hash = "1".repeat(32);
    for (const address of addresses().filter((one) => !one.includes("cache-info"))) {
      const missing = address.replace(/[0-9a-z]{52}|[0-9a-z]{32}|[0-9a-f]{40}/, (text) =>
        text.length === 52 ? "0".repeat(52) : text.length === 40 ? "0".repeat(40) : hash,
      );
      expect(await ask(`/cache/open/${address}`, {})).toEqual(await ask(`/cache/open/${missing}`, {}));
    }
  });
});

test("whatever stands in the first line of a request, nobody gets out of a cache, and nothing breaks", async () => {
  const shown = await offerTree(bench, open, "shown", { file: "shown" });
  const serve = `/cache/open/serve/${storePathHash(shown.storePath)}`;
  const targets = [
    ...[
      "..",
      "../..",
      "%2e%2e/%2e%2e/etc/passwd",
      "file/..",
      "./file",
      "//file",
      "file%00",
      "%",
      "%c3",
      "\\..\\file",
    ].map((rest) => `${serve}/${rest}`),
    ...[
      "",
      "/",
      "/..",
      "/../closed/nix-cache-info",
      "/%2e%2e/closed/nix-cache-info",
      "//",
      "/nix-cache-info/..",
      "/\xff",
    ].map((rest) => `/cache/open${rest}`),
    `/cache/open/nar/../../closed/${addresses()[3]}`,
    `/cache/open/log/${"a".repeat(10_000)}.drv`,
    `${serve}/${"a/".repeat(6_000)}`,
    `/cache/open/nix-cache-info?${"json&".repeat(2_000)}`,
    "http://elsewhere.example.org/cache/open/../closed/nix-cache-info",
    "http:///cache/open/nix-cache-info",
    "//cache/open/nix-cache-info",
    "/cache",
    "*",
  ];
  for (const target of targets) {
    const [status = 0, text] = await askRaw(target);
    expect([target.slice(0, 100), status >= 200 && status < 500]).toEqual([target.slice(0, 100), true]);
    expect(text).not.toContain("root:");
    // The one that is not public would ask for credentials or, to who has some, say 404.
    if (status === 200) expect(text).toMatch(/shown|StoreDir|WantMassQuery/);
  }
  expect(await askRaw(`${serve}/file`)).toEqual([200, expect.stringContaining("shown")]);
});

/** Sends the target as it is: clients tidy it up. */
function askRaw(target: string): Promise<[status: number, answer: string]> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => {
      socket.write(
        Buffer.from(`GET ${target} HTTP/1.1\r\nHost: cache.example.org\r\nConnection: close\r\n\r\n`, "latin1"),
      );
    });
    socket.on("error", reject);
    buffer(socket).then((bytes) => {
      const text = bytes.toString("latin1");
      resolve([Number(/^HTTP\/1\.1 ([0-9]{3})/.exec(text)?.[1]), text]);
    }, reject);
  });
}

describe("logs in a public cache", () => {
  let shown: StoredPath;
  const address = () => `/cache/open/log/${derivationOf(shown)}`;

  beforeAll(async () => {
    shown = await offerTree(bench, open, "tool", { tool: "#!" });
    await addBuild("acme-private", shown);
  });

  test("of a private organization are for its members alone", async () => {
    const nothing = await ask(`/cache/open/log/${"0".repeat(32)}-app.drv`, {});
    expect(nothing.status).toBe(404);
    const found: string[] = [];
    for (const [name, { headers }] of askers) {
      const answer = await ask(address(), headers);
      if (answer.status !== 200) expect([name, answer]).toEqual([name, nothing]);
      else found.push(name);
      if (answer.status === 200) expect(answer.headers["cache-control"]).toBe("private, no-store");
    }
    // A key that is pinned to a cache reaches no organization.
    expect(found).toEqual([
      "a View member by Bearer",
      "a View member by Basic",
      "a member of an organization that reads",
      "a key",
      "a key by Bearer",
      "a key under the other prefix",
      "a key pinned to an organization that reads",
      "a key from where it may be used",
    ]);
  });

  test("of a public organization are for everybody, whole and in parts", async () => {
    await addOrganization(bench, "public-org", { public: true });
    await addBuild("public-org", shown);
    const answer = await ask(address(), {});
    const text = "log of public-org\nfor its members\n";
    expect([answer.status, answer.body]).toEqual([200, text]);
    expect(answer.headers).toMatchObject({
      "content-type": "text/plain; charset=utf-8",
      "content-length": String(text.length),
      "content-security-policy": "sandbox",
      "x-content-type-options": "nosniff",
      "cache-control": "public, max-age=1",
    });
    const part = await ask(address(), { range: "bytes=7-16" });
    expect([part.status, part.body]).toEqual([206, "public-org"]);
    const head = await ask(address(), {}, "HEAD");
    expect([head.status, head.body, head.headers]).toEqual([200, "", answer.headers]);
    expect((await ask(address(), { "if-none-match": answer.headers.etag as string })).status).toBe(304);
  });

  test("are those of builds whose outputs are in this cache", async () => {
    const elsewhere = await offerTree(bench, closed, "elsewhere", { elsewhere: "#!" });
    await addBuild("public-org", elsewhere);
    expect((await ask(`/cache/open/log/${derivationOf(elsewhere)}`, {})).status).toBe(404);
    await bench.deps.db.deleteFrom("cache_path").where("cache_id", "=", open.id).execute();
    expect((await ask(address(), {})).status).toBe(404);
  });
});
