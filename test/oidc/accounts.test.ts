import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { uuidV7 } from "#core/lib/ids.ts";
import { startProvider, type TestProvider } from "./provider.ts";
import { type Site, startSite } from "./site.ts";

let provider: TestProvider;
let site: Site;
beforeAll(async () => {
  provider = await startProvider("ES256");
  site = await startSite({ discoveryUrl: provider.url });
});
afterAll(async () => {
  await site[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

interface Provisioned {
  readonly email?: string;
  readonly active?: boolean;
  readonly managed?: boolean;
  readonly superuser?: boolean;
  readonly email_verified?: boolean;
  /** The account is linked to an identity of this issuer. */
  readonly issuer?: string;
}

/** As the state file or a directory makes accounts: without a password. */
async function provision(username: string, { issuer, ...more }: Provisioned = {}): Promise<string> {
  const id = uuidV7(Date.now());
  const email = more.email ?? `${username}@example.org`;
  await site.t.db
    .insertInto("user_account")
    .values({ id, username, name: username, email, ...more })
    .execute();
  if (issuer) {
    await site.t.db
      .insertInto("user_identity")
      .values({ user_id: id, issuer, subject: `old-${username}` })
      .execute();
  }
  return id;
}

/** Refused, and for this reason. */
async function expectRefused(claims: Record<string, unknown>, reason: RegExp): Promise<void> {
  expect((await site.signIn(provider, claims)).status).toBe(401);
  expect(await site.lastFailure()).toMatch(reason);
}

test("an account that was provisioned is claimed by its verified address, whatever the name there is", async () => {
  const id = await provision("grace", { superuser: true });
  const claims = { sub: "g-1", preferred_username: "ghopper", email: "Grace@Example.org", email_verified: true };
  expect(await site.signedIn(provider, claims)).toMatchObject({ id, username: "grace", email_verified: true });
  // From then on the subject counts, not the address.
  expect(await site.signedIn(provider, { sub: "g-1", preferred_username: "x" })).toMatchObject({ id });
  await expectRefused({ ...claims, sub: "g-2" }, /account grace has this address and is somebody's already/);
});

test("an address that the provider did not verify claims nothing, in whichever way it says so", async () => {
  await provision("linus");
  const claims = { sub: "l-1", preferred_username: "someone-else", email: "linus@example.org" };
  for (const email_verified of [false, undefined, "false", 1, null]) {
    await expectRefused(
      { ...claims, email_verified },
      /account linus has this address, which the provider does not say/,
    );
  }
  expect((await site.signIn(provider, { ...claims, email_verified: "true" })).status).toBe(302);
});

test("an account that was provisioned is claimed by its name, also one that nobody could register", async () => {
  const id = await provision("root");
  expect(await site.signedIn(provider, { sub: "r-1", preferred_username: "Root" })).toMatchObject({ id });
  await expectRefused({ sub: "r-2", preferred_username: "root" }, /account root has this name and is somebody's/);
});

test("a name that only comes near an account's claims nothing", async () => {
  await provision("ada-l");
  const user = await site.signedIn(provider, { sub: "al", preferred_username: "ada.l" });
  expect(user.username).toBe("ada-l-2");
  await provision("kelvin");
  const sign = await site.signedIn(provider, { sub: "kelvin", preferred_username: "\u212aelvin" });
  expect(sign.username).toBe("Kelvin-2");
});

test("an account with a password is nobody else's, by name or by address", async () => {
  await site.t.user("Keeper");
  await expectRefused({ sub: "k-1", preferred_username: "keeper" }, /has this name and is somebody's already/);
  const mail = { email: "keeper@example.com", email_verified: true };
  await expectRefused({ sub: "k-2", preferred_username: "k2", ...mail }, /has this address and is somebody's already/);
});

test("who registers with an address and never shows that it is theirs keeps nobody out", async () => {
  await using verifying = await startSite({ discoveryUrl: provider.url, verifies: true });
  await verifying.t.user("squatter");
  await verifying.t.user("member");
  const { db } = verifying.t;
  await db.updateTable("user_account").set({ last_login_at: new Date() }).where("username", "=", "member").execute();
  const claims = (name: string) => ({ sub: name, email: `${name}@example.com`, email_verified: true });

  expect((await verifying.signIn(provider, { ...claims("squatter"), email_verified: false })).status).toBe(401);
  expect((await verifying.signIn(provider, claims("member"))).status).toBe(401);
  const person = await verifying.signedIn(provider, { ...claims("squatter"), preferred_username: "owner" });
  expect(person).toMatchObject({ username: "owner", email: "squatter@example.com", email_verified: true });
  const names = await db.selectFrom("user_account").select("username").orderBy("username").execute();
  expect(names.map(({ username }) => username)).toEqual(["member", "owner"]);
});

test("an account that was never verified stays when deactivated or given anything, and nobody comes in", async () => {
  await using verifying = await startSite({ discoveryUrl: provider.url, verifies: true });
  const { t } = verifying;
  const { token } = await t.user("founder");
  const ids = new Map<string, string>();
  for (const name of ["banned", "boss", "member", "cacher", "keyed"]) ids.set(name, (await t.user(name)).id);
  const id = (name: string) => ids.get(name) as string;
  const set = (name: string, columns: object) =>
    t.db.updateTable("user_account").set(columns).where("id", "=", id(name)).execute();
  await set("banned", { active: false });
  await set("boss", { superuser: true });
  const body = { name: "acme", display_name: "Acme", description: "" };
  expect((await t.ask("PUT", "/orgs", { token, body })).status).toBe(200);
  await t.db
    .updateTable("organization_member")
    .set({ user_id: id("member") })
    .execute();
  await sql`
    with made as (
      insert into cache (id, name, display_name, description) values (${uuidV7(Date.now())}, 'main', 'Main', '')
      returning id)
    insert into cache_member (cache_id, user_id, role_id)
    select made.id, ${id("cacher")}::uuid, (select id from cache_role limit 1) from made`.execute(t.db);
  await sql`
    insert into api_key (id, owner_id, name, token_hash, permissions)
    values (${uuidV7(Date.now())}, ${id("keyed")}, 'ci', 'x', 0)`.execute(t.db);

  for (const [name, reason] of [
    ["banned", /account banned is deactivated/],
    ["boss", /account boss has this address and is somebody's already/],
    ["member", /account member has this address/],
    ["cacher", /account cacher has this address/],
    ["keyed", /account keyed has this address/],
  ] as const) {
    const claims = { sub: name, preferred_username: name, email: `${name}@example.com`, email_verified: true };
    expect([name, (await verifying.signIn(provider, claims)).status]).toEqual([name, 401]);
    expect(await verifying.lastFailure()).toMatch(reason);
  }
  const left = await t.db.selectFrom("user_account").select("username").orderBy("username").execute();
  expect(left.map(({ username }) => username)).toEqual(["banned", "boss", "cacher", "founder", "keyed", "member"]);
});

test("what the state file promised to a name goes on from who took it to whose address it is", async () => {
  await using verifying = await startSite({ discoveryUrl: provider.url, verifies: true });
  const { t } = verifying;
  const { token } = await t.user("founder");
  const body = { name: "acme", display_name: "Acme", description: "" };
  expect((await t.ask("PUT", "/orgs", { token, body })).status).toBe(200);
  const squatter = await t.user("awaited");
  await sql`
    insert into organization_member (organization_id, user_id, role_id, managed)
    select organization_id, ${squatter.id}, role_id, true from organization_member`.execute(t.db);

  const claims = { sub: "a", preferred_username: "Awaited", email: "awaited@example.com", email_verified: true };
  const person = await verifying.signedIn(provider, claims);

  expect(person.id).not.toBe(squatter.id);
  const members = t.db.selectFrom("organization_member").select(["managed"]).where("user_id", "=", person.id);
  expect(await members.execute()).toEqual([{ managed: true }]);
  expect(await t.db.selectFrom("pending_member").selectAll().execute()).toEqual([]);
  const deletion = await t.db.selectFrom("audit_event").selectAll().where("event", "=", "user.delete").execute();
  expect(deletion).toMatchObject([{ user_id: person.id, metadata: { username: "awaited" } }]);
});

test("an account of a provider that was replaced is claimed by the verified address, not by the name", async () => {
  const id = await provision("moved", { issuer: "https://old.example.org", email_verified: true });
  await provision("trap", { issuer: "https://old.example.org" });
  const claims = { sub: "m-1", preferred_username: "moved", email: "other@example.org", email_verified: true };
  await expectRefused(claims, /has this name and is somebody's already/);
  expect(await site.signedIn(provider, { ...claims, email: "moved@example.org" })).toMatchObject({ id });
  await expectRefused({ ...claims, sub: "m-2", email: "moved@example.org" }, /somebody's already/);
  // Somebody may have told the old provider an address that was not theirs.
  await expectRefused({ ...claims, sub: "m-3", email: "trap@example.org" }, /account trap has this address/);
});

test("a deactivated user stays out, linked or not", async () => {
  await provision("gone", { active: false });
  await expectRefused({ sub: "gone", preferred_username: "gone" }, /account gone is deactivated/);
  const user = await site.signedIn(provider, { sub: "leaver", preferred_username: "leaver" });
  await site.t.db.updateTable("user_account").set({ active: false }).where("id", "=", user.id).execute();
  await expectRefused({ sub: "leaver", preferred_username: "leaver" }, /account leaver is deactivated/);
});

test("people without an address do not collide, and get one when the provider tells it", async () => {
  const one = await site.signedIn(provider, { sub: "mute-1", preferred_username: "mute-1" });
  const two = await site.signedIn(provider, { sub: "mute-2", preferred_username: "mute-2", email: "no address" });
  expect([one.email, two.email, one.email_verified]).toEqual(["", "", false]);
  const claims = { sub: "mute-1", preferred_username: "mute-1", email: "mute@example.org" };
  expect(await site.signedIn(provider, { ...claims, email_verified: false })).toMatchObject({
    email: "mute@example.org",
    email_verified: false,
  });
  expect(await site.signedIn(provider, { ...claims, email_verified: true })).toMatchObject({ email_verified: true });
});

test("name and address follow the provider; an address that nobody verified, or another's, does not", async () => {
  const claims = { sub: "mover", preferred_username: "mover", email_verified: true };
  await site.signedIn(provider, { ...claims, name: "Old Name", email: "old@example.org" });
  const renamed = { ...claims, preferred_username: "renamed", name: "New, Name (Dr.)", email: "new@example.org" };
  const now = { username: "mover", name: "New Name Dr.", email: "new@example.org", email_verified: true };
  expect(await site.signedIn(provider, renamed)).toMatchObject(now);
  expect(await site.signedIn(provider, { ...renamed, email: "x@example.org", email_verified: false })).toMatchObject(
    now,
  );
  await provision("owner", { email: "owned@example.org" });
  expect(await site.signedIn(provider, { ...renamed, email: "OWNED@example.org" })).toMatchObject(now);
  expect(site.lastWarning()?.message).toMatch(/another account's/);
  expect(await site.signedIn(provider, claims)).toMatchObject(now);
});

test("what the operator's state says of a user stays", async () => {
  await provision("stated", { managed: true });
  const claims = {
    sub: "st",
    preferred_username: "stated",
    name: "Else",
    email: "else@example.org",
    email_verified: true,
  };
  expect(await site.signedIn(provider, claims)).toMatchObject({ name: "stated", email: "stated@example.org" });
});

test.each([
  ["ada@example.org", "ada"],
  ["Zoë Müller", "Zoe-Muller"],
  ["a", "user-a"],
  ["admin", "user-admin"],
  ["--x__y--", "x-y"],
  ["管理者", "user-2"],
  ["n".repeat(300), "n".repeat(50)],
  ["a.b/../c", "a-b-c"],
])("someone called %s becomes the user %s", async (preferred_username, username) => {
  const sub = encodeURIComponent(preferred_username).slice(0, 200);
  expect((await site.signedIn(provider, { sub, preferred_username })).username).toBe(username);
});

test("two sign-ins at once of one new person make one account", async () => {
  const claims = { sub: "twice", preferred_username: "twice", email: "twice@example.org", email_verified: true };
  const answers = await Promise.all(Array.from({ length: 6 }, () => site.signIn(provider, claims)));
  expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(302));
  const accounts = await site.t.db.selectFrom("user_account").select("id").where("username", "=", "twice").execute();
  expect(accounts).toHaveLength(1);
});

test("of two people at once one claims an account, and each of two with like names gets one", async () => {
  await provision("contested");
  const claim = (sub: string) => site.signIn(provider, { sub, preferred_username: "contested" });
  const answers = await Promise.all(["c-1", "c-2", "c-3"].map(claim));
  expect(answers.map(({ status }) => status).sort()).toEqual([302, 401, 401]);
  const people = ["like.me", "like+me", "like me"].map((preferred_username) =>
    site.signedIn(provider, { sub: preferred_username, preferred_username }),
  );
  const names = (await Promise.all(people)).map(({ username }) => username);
  expect(names.sort()).toEqual(["like-me", "like-me-2", "like-me-3"]);
});

test("who wants a name that somebody takes in that moment gets another one", async () => {
  const { db } = site.t;
  const inserted = Promise.withResolvers<void>();
  const taken = Promise.withResolvers<void>();
  const other = db.transaction().execute(async (trx) => {
    const user = { id: uuidV7(Date.now()), username: "held-name", name: "Held", email: "held@example.org" };
    await trx.insertInto("user_account").values(user).execute();
    inserted.resolve();
    await taken.promise;
  });
  await inserted.promise;
  const signingIn = site.signedIn(provider, { sub: "held", preferred_username: "held.name" });
  const waiting = sql<{ count: number }>`
    select count(*)::int as count from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock'`;
  await expect.poll(async () => (await waiting.execute(db)).rows[0]?.count, { timeout: 20_000 }).toBeGreaterThan(0);
  taken.resolve();
  await other;
  expect((await signingIn).username).toBe("held-name-2");
});
