import { afterAll, beforeAll, expect, test } from "vitest";
import { formatPublicKey, generateKeyPair, publicKeyOf } from "#core/nix/signature.ts";
import { newId } from "#test/cache/support.ts";
import { type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
let stranger: TestUser;
let key: string;
const NIXOS_KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

beforeAll(async () => {
  t = await withApp();
  owner = await t.user("Owner");
  stranger = await t.user("Stranger");
  key = formatPublicKey(publicKeyOf((await generateKeyPair("other-1")).secretKey));
});
afterAll(() => t[Symbol.asyncDispose]());

/** A cache of its own, with the path of its upstreams. */
async function makeCache(name: string, isPublic = false): Promise<string> {
  const body = { name, display_name: name, description: "", public: isPublic };
  expect((await t.ask("PUT", "/caches", { token: owner.token, body })).status).toBe(200);
  return `/caches/${name}/upstreams`;
}

function http(more: object = {}) {
  return { type: "http", display_name: "Other", url: "https://cache.example.org", public_key: key, ...more };
}

function gradient(more: object = {}) {
  const body = {
    type: "gradient_proto",
    url: "https://other.example.org",
    remote_cache: "main",
    display_name: "Other",
  };
  return { ...body, public_key: key, ...more };
}

test("a new cache rests on cache.nixos.org", async () => {
  const path = await makeCache("fresh");
  expect((await t.ask("GET", path, { token: owner.token })).body.message).toEqual([
    {
      id: expect.any(String),
      display_name: "cache.nixos.org",
      mode: "ReadOnly",
      upstream_cache_id: null,
      url: "https://cache.nixos.org",
      public_key: NIXOS_KEY,
      kind: "http",
      remote_cache: null,
    },
  ]);
});

test("an upstream is added, changed and removed; servers that remember it are told", async () => {
  const path = await makeCache("changing");
  const options = { token: owner.token };
  const body = http({ url: "http://10.0.0.5:5000/nix//", public_key: ` ${key}\n${NIXOS_KEY} ` });
  t.notified.length = 0;
  const id: string = (await t.ask("PUT", path, { ...options, body })).body.message;
  const list = async () => (await t.ask("GET", path, options)).body.message as { id: string }[];
  expect((await list()).find((one) => one.id === id)).toMatchObject({
    url: "http://10.0.0.5:5000/nix",
    public_key: `${key} ${NIXOS_KEY}`,
    mode: "ReadOnly",
  });
  expect((await t.ask("PUT", path, { ...options, body })).body.code).toBe("already_exists");

  const change = { display_name: "Renamed", mode: "WriteOnly", url: "https://new.example.org", public_key: key };
  expect((await t.ask("PATCH", `${path}/${id}`, { ...options, body: change })).status).toBe(200);
  expect((await list()).find((one) => one.id === id)).toMatchObject(change);
  const taken = { url: "https://cache.nixos.org/" };
  expect((await t.ask("PATCH", `${path}/${id}`, { ...options, body: taken })).body.code).toBe("already_exists");

  expect((await t.ask("DELETE", `${path}/${id}`, options)).status).toBe(200);
  expect((await list()).map((one) => one.id)).not.toContain(id);
  expect(t.notified.filter((line) => /^path [0-9a-f-]+\/$/.test(line))).toHaveLength(3);
});

test("with another address or other keys, what was seen there counts no more", async () => {
  const path = await makeCache("moving");
  const options = { token: owner.token };
  const id: string = (await t.ask("PUT", path, { ...options, body: http() })).body.message;
  const see = () =>
    t.db
      .insertInto("upstream_path")
      .values({ upstream_id: id, hash: "0".repeat(32), found: false })
      .execute();
  const seen = async () =>
    (await t.db.selectFrom("upstream_path").select("hash").where("upstream_id", "=", id).execute()).length;
  await see();
  await t.ask("PATCH", `${path}/${id}`, { ...options, body: { display_name: "Same place" } });
  expect(await seen()).toBe(1);
  for (const change of [{ url: "https://elsewhere.example.org" }, { public_key: NIXOS_KEY }]) {
    await t.ask("PATCH", `${path}/${id}`, { ...options, body: change });
    expect(await seen()).toBe(0);
    await see();
  }
});

test("what cannot be an upstream is refused with what is wrong", async () => {
  const path = await makeCache("strict");
  const refused: [object, RegExp][] = [
    [{ type: "internal", cache_name: "strict" }, /cache_name: is this cache itself/],
    [gradient({ remote_cache: ".." }), /remote_cache: must be the name/],
    [gradient({ remote_cache: "a/b" }), /remote_cache: must be the name/],
    [gradient({ url: "http://x.org", api_key: "GRADx" }), /api_key: needs a url with https/],
    [gradient({ public_key: undefined }), /url: no Gradient there tells the public key/],
    [gradient({ url: "https://ci.example.com", remote_cache: "strict" }), /url: is this cache itself/],
    [http({ url: "https://ci.example.com/cache/strict/" }), /url: is this cache itself/],
    [{ type: "ftp" }, /type/],
    [http({ url: "ftp://example.org" }), /url: must begin with http/],
    [http({ url: "file:///nix" }), /url: must begin with http/],
    [http({ url: "cache.example.org" }), /url: must begin with http/],
    [http({ url: "https://me:secret@example.org" }), /url: must not hold a name or password/],
    [http({ url: "https://example.org?priority=1" }), /url: must end with its path/],
    [http({ public_key: "" }), /public_key: must be of the form/],
    [http({ public_key: "name-without-key" }), /public_key: must be of the form/],
    [http({ public_key: undefined }), /public_key/],
    [http({ display_name: "" }), /display_name/],
    [http({ mode: "Sometimes" }), /mode/],
  ];
  for (const [body, words] of refused) {
    const answer = await t.ask("PUT", path, { token: owner.token, body });
    expect([answer.status, answer.body.message]).toEqual([400, expect.stringMatching(words)]);
  }
  for (let i = 0; i < 15; i++) {
    await t.ask("PUT", path, { token: owner.token, body: http({ url: `https://${i}.example.org` }) });
  }
  const last = await t.ask("PUT", path, { token: owner.token, body: http() });
  expect([last.body.code, last.body.message]).toEqual(["bad_request", expect.stringContaining("at most 16")]);
});

test("upstreams are read by whoever reads the cache, changed by whom its roles allow, hidden from others", async () => {
  const hidden = await makeCache("hidden");
  const open = await makeCache("open", true);
  const [{ id } = { id: "" }] = (await t.ask("GET", hidden, { token: owner.token })).body.message as { id: string }[];
  expect((await t.ask("GET", open)).status).toBe(200);
  const requests: [string, string, object?][] = [
    ["GET", ""],
    ["PUT", "", http()],
    ["PATCH", `/${id}`, { display_name: "x" }],
    ["DELETE", `/${id}`],
  ];
  for (const [method, rest, body] of requests) {
    const options = { token: stranger.token, ...(body ? { body } : {}) };
    const forbidden = await t.ask(method, hidden + rest, options);
    const unknown = await t.ask(method, `/caches/unknown/upstreams${rest}`, options);
    expect([method, forbidden.status, forbidden.text]).toEqual([method, 404, unknown.text]);
    if (method !== "GET") expect([method, (await t.ask(method, open + rest, options)).status]).toEqual([method, 404]);
    if (method !== "GET") expect((await t.ask(method, hidden + rest, body ? { body } : {})).status).toBe(401);
  }
  for (const [other, status] of [
    [newId(), 404],
    ["not-an-id", 400],
  ] as const) {
    expect((await t.ask("DELETE", `${hidden}/${other}`, { token: owner.token })).status).toBe(status);
    const change = { token: owner.token, body: { display_name: "x" } };
    expect((await t.ask("PATCH", `${hidden}/${other}`, change)).status).toBe(status);
  }
  // The id of another cache's upstream leads nowhere.
  expect((await t.ask("DELETE", `${open}/${id}`, { token: owner.token })).status).toBe(404);
  expect((await t.ask("GET", hidden, { token: owner.token })).body.message).toHaveLength(1);
});

test("a cache of another Gradient is added with its API key, which nobody is shown", async () => {
  const path = await makeCache("relaying");
  const options = { token: owner.token };
  const id: string = (await t.ask("PUT", path, { ...options, body: gradient({ api_key: "GRADsecret" }) })).body.message;
  const listed = (await t.ask("GET", path, options)).body.message as { id: string }[];
  expect(listed.find((one) => one.id === id)).toEqual({
    id,
    display_name: "Other",
    mode: "ReadOnly",
    upstream_cache_id: null,
    url: "https://other.example.org",
    public_key: key,
    kind: "gradientproto",
    remote_cache: "main",
  });
  const row = await t.db.selectFrom("cache_upstream").select("api_key").where("id", "=", id).executeTakeFirst();
  expect(Buffer.from(row?.api_key ?? "").includes("GRADsecret")).toBe(false);
  expect(row?.api_key).not.toBeNull();
  // The key goes to no other server than the one it was given for.
  const moved = await t.ask("PATCH", `${path}/${id}`, { ...options, body: { url: "https://evil.example.org" } });
  expect([moved.status, moved.body.message]).toEqual([400, expect.stringMatching(/^url: cannot be changed/)]);
  const without = await t.ask("PATCH", `${path}/${id}`, { ...options, body: { api_key: null, public_key: NIXOS_KEY } });
  expect(without.status).toBe(200);
  const after = await t.db.selectFrom("cache_upstream").select("api_key").where("id", "=", id).executeTakeFirst();
  expect(after?.api_key).toBeNull();
});

test("another cache of this server is added by who may read it, and shown to who may see it", async () => {
  const path = await makeCache("above");
  const open = await makeCache("above-open", true);
  await makeCache("below");
  await t.ask("PUT", "/caches", {
    token: stranger.token,
    body: { name: "theirs", display_name: "Theirs", description: "", public: false },
  });
  const add = (to: string, cache_name: string) =>
    t.ask("PUT", to, { token: owner.token, body: { type: "internal", cache_name } });
  // What one may not see is what is not there.
  const hidden = await add(path, "theirs");
  const absent = await add(path, "no-such-cache");
  expect([hidden.status, hidden.body]).toEqual([absent.status, absent.body]);
  expect(hidden.status).toBe(404);
  await makeCache("everybodys", true);
  const theirs = await t.ask("PUT", "/caches/theirs/upstreams", {
    token: stranger.token,
    body: { type: "internal", cache_name: "everybodys" },
  });
  expect(theirs.status).toBe(200);
  const leak = await add(open, "below");
  expect([leak.status, leak.body.message]).toEqual([400, expect.stringMatching(/that cache is private/)]);
  expect((await add(path, "below")).status).toBe(200);
  expect((await add(path, "below")).body.code).toBe("already_exists");
  const list = async (token?: string, of = path) =>
    ((await t.ask("GET", of, token === undefined ? {} : { token })).body.message as { kind: string }[]).filter(
      ({ kind }) => kind === "internal",
    );
  const below = await t.db.selectFrom("cache").select("id").where("name", "=", "below").executeTakeFirstOrThrow();
  expect(await list(owner.token)).toEqual([
    {
      id: expect.any(String),
      display_name: "below",
      mode: "ReadWrite",
      upstream_cache_id: below.id,
      url: null,
      public_key: null,
      kind: "internal",
      remote_cache: null,
    },
  ]);
  await t.ask("POST", "/caches/above/public", { token: owner.token });
  expect([await list(), await list(stranger.token)]).toEqual([[], []]);
  expect(await list(owner.token)).toHaveLength(1);
});

test("whether a cache keeps what passes through it is a setting of the cache", async () => {
  await makeCache("keeping");
  const options = { token: owner.token };
  const shown = async () => (await t.ask("GET", "/caches/keeping", options)).body.message as { pull_through: boolean };
  expect(await shown()).toMatchObject({ pull_through: false });
  expect((await t.ask("PATCH", "/caches/keeping", { ...options, body: { pull_through: true } })).status).toBe(200);
  expect(await shown()).toMatchObject({ pull_through: true });
});

test("how upstreams answer is shown for caches that one may see", async () => {
  const [secret, open] = [await makeCache("figures"), await makeCache("figures-open", true)];
  const ids: string[] = [];
  for (const path of [secret, open]) {
    const [row] = (await t.ask("GET", path, { token: owner.token })).body.message as { id: string }[];
    ids.push(row?.id ?? "");
    const counts = { requests: 4, latency_ms: 200, hits: 1, misses: 2, failures: 1 };
    const hour = new Date();
    await t.db
      .insertInto("upstream_metric")
      .values({ upstream_id: row?.id ?? "", hour, ...counts })
      .execute();
  }
  const board = async (token?: string) => {
    const answer = await t.ask("GET", "/board/cache/upstreams?window_hours=2", token === undefined ? {} : { token });
    return (answer.body.message as { upstreams: { upstream_id: string }[] }).upstreams;
  };
  const idsOf = async (token?: string) => (await board(token)).map((one) => one.upstream_id).sort();
  expect(await idsOf(owner.token)).toEqual([...ids].sort());
  expect([await idsOf(), await idsOf(stranger.token)]).toEqual([[ids[1]], [ids[1]]]);
  expect((await board())[0]).toMatchObject({
    display_name: "cache.nixos.org",
    avg_latency_ms: 50,
    hit_rate: 1 / 3,
    requests_total: 4,
    failures_total: 1,
    latency: [{ bucket_start: expect.any(String), count: 4, sum: 200 }],
    hit_rate_series: [{ bucket_start: expect.any(String), count: 3, sum: 1 }],
  });
});
