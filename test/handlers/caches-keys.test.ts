import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { CacheKeyView } from "#core/api/caches-keys.ts";
import { inTransaction } from "#core/db/transaction.ts";
import { CACHE_ROLE } from "#core/domain/permissions.ts";
import { formatPublicKey, formatSecretKey, generateKeyPair, type KeyPair } from "#core/nix/signature.ts";
import { commitPaths } from "#core/services/cache-commit.ts";
import { walkKeys } from "#core/services/key-rotation-walk.ts";
import { storeFile } from "#test/cache/support.ts";
import { type Answer, type TestApp, type TestUser, withApp } from "./support.ts";

let t: TestApp;
let owner: TestUser;
let writer: TestUser;
let stranger: TestUser;
let cacheId: string;
let cache: string;
let caches = 0;

beforeAll(async () => {
  t = await withApp();
  [owner, writer, stranger] = [await t.user("Owner"), await t.user("Writer"), await t.user("Stranger")];
});
afterAll(() => t[Symbol.asyncDispose]());
beforeEach(async () => {
  cache = `cache-${caches++}`;
  const made = await t.ask("PUT", "/caches", { token: owner.token, body: { name: cache, display_name: "A name" } });
  cacheId = made.body.message;
  const member = { cache_id: cacheId, user_id: writer.id, role_id: CACHE_ROLE.Write };
  await t.db.insertInto("cache_member").values(member).execute();
});

const ask = (method: string, path: string, body?: unknown, user = owner): Promise<Answer> =>
  t.ask(method, `/caches/${cache}${path}`, { token: user.token, ...(body !== undefined && { body }) });
const keys = async (): Promise<CacheKeyView[]> => (await ask("GET", "/keys")).body.message;
const walk = () => walkKeys(t.deps, new AbortController().signal);

async function add(name: string): Promise<string> {
  const path = await storeFile({ deps: t.deps }, name);
  const { secretKeyOf } = t.deps;
  await inTransaction(t.db, (trx) =>
    commitPaths(trx, { secretKeyOf }, { cacheIds: [cacheId], organizationId: null, paths: [path] }),
  );
  return path.storePath.slice(11, 43);
}

/** Names of the keys that have signed a path. */
async function signersOf(hash: string): Promise<string[]> {
  const { signatures } = await t.db
    .selectFrom("cache_path")
    .select("signatures")
    .where("cache_id", "=", cacheId)
    .where("hash", "=", hash)
    .executeTakeFirstOrThrow();
  return signatures.map((signature) => signature.slice(0, signature.indexOf(":")));
}

function imported({ secretKey }: KeyPair): { readonly secret_key: string } {
  return { secret_key: formatSecretKey(secretKey) };
}

test("a rotated cache signs with both keys what is new, then what is there, until one retires", async () => {
  const [first, second] = [`ci.example.com-${cache}`, `ci.example.com-${cache}.2`];
  const old = await add("old");
  const rotated = await ask("POST", "/keys/rotate");
  expect(rotated.body.message).toMatchObject({ name: second, state: "signing", remaining_paths: 1, retired_at: null });

  const recent = await add("recent");
  expect([await signersOf(old), await signersOf(recent)]).toEqual([[first], [first, second]]);
  const [one, two] = await keys();
  expect((await ask("GET", "/public-key")).body.message).toBe(`${one?.public_key} ${two?.public_key}`);
  expect((await ask("GET", "")).body.message).toMatchObject({ public_key: `${one?.public_key} ${two?.public_key}` });

  const early = await ask("POST", `/keys/${one?.id}/retire`);
  expect([early.status, early.body.message]).toEqual([409, expect.stringMatching(/no other key has signed every/i)]);
  t.notified.length = 0;
  await walk();
  expect(await signersOf(old)).toEqual([first, second]);
  expect(t.notified).toContain(`path ${cacheId}/${old}`);
  expect(t.notified).not.toContain(`path ${cacheId}/${recent}`);
  expect(await keys()).toMatchObject([{ remaining_paths: 0 }, { remaining_paths: 0 }]);

  const retiring = await ask("POST", `/keys/${one?.id}/retire`);
  expect(retiring.body.message).toMatchObject({ name: first, state: "retiring", remaining_paths: 2 });
  expect((await ask("GET", "/public-key")).body.message).toBe(two?.public_key);
  const last = await add("last");
  t.notified.length = 0;
  await walk();
  for (const hash of [old, recent, last]) expect(await signersOf(hash)).toEqual([second]);
  expect(t.notified).toEqual(expect.arrayContaining([`path ${cacheId}/${old}`, `path ${cacheId}/`]));
  expect(await keys()).toMatchObject([{ state: "retired", remaining_paths: 0 }, { state: "signing" }]);
});

test("a retired key's signature does not come back with an upload", async () => {
  await ask("POST", "/keys/rotate");
  await walk();
  await ask("POST", `/keys/${cacheId}/retire`);
  await walk();
  const [{ name = "" } = {}] = await keys();
  const path = { ...(await storeFile({ deps: t.deps }, "again")), signatures: [`${name}:c2ln`, "other:c2ln"] };
  const commit = { cacheIds: [cacheId], organizationId: null, paths: [path] };
  for (let round = 0; round < 2; round++) await inTransaction(t.db, (trx) => commitPaths(trx, t.deps, commit));
  expect(await signersOf(path.storePath.slice(11, 43))).toEqual([`${name}.2`, "other"]);
});

test("the last key that signs stays; another goes at once with force, and can be deleted then", async () => {
  const retire = (body?: unknown) => ask("POST", `/keys/${cacheId}/retire`, body);
  const only = await retire({ force: true });
  expect([only.status, only.body.message]).toEqual([409, expect.stringMatching(/the only key/)]);
  const hash = await add("path");
  await ask("POST", "/keys/rotate");
  expect((await retire({ force: true })).status).toBe(200);
  expect((await retire({ force: true })).status).toBe(409);
  expect((await ask("DELETE", `/keys/${cacheId}`)).status).toBe(409);
  await walk();
  expect(await signersOf(hash)).toEqual([`ci.example.com-${cache}.2`]);
  expect((await ask("DELETE", `/keys/${cacheId}`)).status).toBe(200);
  expect((await ask("DELETE", `/keys/${cacheId}`)).status).toBe(404);
  expect(await keys()).toHaveLength(1);
});

test("a key that Nix made is taken, signs under its own name, and replaces what others said under it", async () => {
  const pair = await generateKeyPair("cache.example.net-1");
  const path = { ...(await storeFile({ deps: t.deps }, "path")), signatures: ["cache.example.net-1:Zm9yZ2Vk"] };
  const commit = { cacheIds: [cacheId], organizationId: null, paths: [path] };
  await inTransaction(t.db, (trx) => commitPaths(trx, t.deps, commit));
  const taken = await ask("POST", "/keys", imported(pair));
  expect(taken.body.message).toMatchObject({ public_key: formatPublicKey(pair.publicKey), remaining_paths: 1 });
  await walk();
  const hash = path.storePath.slice(11, 43);
  expect(await signersOf(hash)).toEqual([`ci.example.com-${cache}`, "cache.example.net-1"]);
  const { signatures } = await t.db
    .selectFrom("cache_path")
    .select("signatures")
    .where("hash", "=", hash)
    .executeTakeFirstOrThrow();
  expect(signatures).not.toContain("cache.example.net-1:Zm9yZ2Vk");

  expect((await ask("GET", "/key")).body.message).toBe(formatSecretKey(pair.secretKey));
  const row = await t.db.selectFrom("cache_key").selectAll().where("name", "=", pair.publicKey.name).execute();
  expect(Buffer.from(row[0]?.secret_key ?? []).toString("latin1")).not.toContain("cache.example.net");
});

test("a retired key that is given again signs again", async () => {
  const hash = await add("path");
  const first = { secret_key: (await ask("GET", "/key")).body.message };
  await ask("POST", "/keys/rotate");
  await walk();
  await ask("POST", `/keys/${cacheId}/retire`);
  await walk();
  expect((await ask("POST", "/keys", first)).body.message).toMatchObject({ id: cacheId, state: "signing" });
  await walk();
  expect((await signersOf(hash)).sort()).toEqual([`ci.example.com-${cache}`, `ci.example.com-${cache}.2`]);
});

test("what is no key, is two keys in one, or has a name that is taken is refused, and so are too many", async () => {
  const [pair, other] = [await generateKeyPair("one-1"), await generateKeyPair("one-1")];
  const mixed = { ...pair.secretKey, publicBytes: other.secretKey.publicBytes };
  for (const [secret_key, reason] of [
    ["one-1:AAAA", /nix-store --generate-binary-cache-key/],
    [formatPublicKey(pair.publicKey), /nix-store --generate-binary-cache-key/],
    [formatSecretKey(mixed), /do not belong together/],
  ] as const) {
    const refused = await ask("POST", "/keys", { secret_key });
    expect([refused.status, refused.body.message]).toEqual([400, expect.stringMatching(reason)]);
  }
  expect((await ask("POST", "/keys", imported(pair))).status).toBe(200);
  for (const again of [pair, other]) expect((await ask("POST", "/keys", imported(again))).status).toBe(409);
  for (const status of [200, 200, 409]) expect((await ask("POST", "/keys/rotate")).status).toBe(status);
  expect((await keys()).map(({ name }) => name)).toEqual(
    ["", ".2", ".3"].map((end) => `ci.example.com-${cache}${end}`).toSpliced(1, 0, "one-1"),
  );
});

test("keys are changed by whoever may manage them, and shown to whoever reads the cache", async () => {
  const secret_key = formatSecretKey((await generateKeyPair("mine-1")).secretKey);
  const changes: [string, string, unknown?][] = [
    ["GET", "/key"],
    ["POST", "/keys", { secret_key }],
    ["POST", "/keys/rotate"],
    ["POST", `/keys/${cacheId}/retire`],
    ["DELETE", `/keys/${cacheId}`],
  ];
  for (const [method, path, body] of changes) {
    const answer = await ask(method, path, body, writer);
    expect([method, path, answer.status]).toEqual([method, path, 403]);
    const hidden = await ask(method, path, body, stranger);
    const absent = await t.ask(method, `/caches/unknown${path}`, { token: stranger.token, body });
    expect([method, path, hidden.status, hidden.text]).toEqual([method, path, 404, absent.text]);
  }
  expect((await ask("GET", "/keys", undefined, writer)).text).not.toContain("secret");
  expect((await ask("GET", "/keys", undefined, stranger)).status).toBe(404);
  await t.db.updateTable("cache").set({ managed: true }).where("id", "=", cacheId).execute();
  for (const [method, path, body] of changes.slice(1)) {
    expect([method, path, (await ask(method, path, body)).status]).toEqual([method, path, 403]);
  }
  expect(await keys()).toHaveLength(1);
});
