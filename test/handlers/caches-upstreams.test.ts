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
    [{ type: "internal", cache_name: "x" }, /`internal` are not supported yet/],
    [{ type: "gradient_proto", url: "https://x.org", remote_cache: "y", display_name: "z" }, /not supported yet/],
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
  for (const other of [newId(), "not-an-id"]) {
    expect((await t.ask("DELETE", `${hidden}/${other}`, { token: owner.token })).status).toBe(404);
    const change = { token: owner.token, body: { display_name: "x" } };
    expect((await t.ask("PATCH", `${hidden}/${other}`, change)).status).toBe(404);
  }
  // The id of another cache's upstream leads nowhere.
  expect((await t.ask("DELETE", `${open}/${id}`, { token: owner.token })).status).toBe(404);
  expect((await t.ask("GET", hidden, { token: owner.token })).body.message).toHaveLength(1);
});
