import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import { claimDueMails } from "#core/db/mails.ts";
import { type Mail, type Mailer, MailRefusedError } from "#core/ports/mailer.ts";
import { deliverMails, tidyMails } from "#core/services/mail-delivery.ts";
import { PASSWORD, type TestApp, withApp } from "./support.ts";

const NEW_PASSWORD = "N3w&shiny-one";

let t: TestApp;
let sent: Mail[];
const outbox: Mailer = { send: async (mail) => void sent.push(mail) };
beforeAll(async () => {
  t = await withApp({ mail: { verificationRequired: true }, frontendUrl: "https://ui.example.com" });
});
afterAll(() => t[Symbol.asyncDispose]());

/** Everything that waits, sent: what it was. */
async function deliver(mailer: Mailer = outbox): Promise<Mail[]> {
  sent = [];
  while ((await deliverMails({ ...t.deps, mailer })) > 0);
  return sent;
}

function tokenIn({ text }: Pick<Mail, "text">): string {
  const token = /token=([0-9a-f]{64})$/m.exec(text)?.[1];
  expect(token).toBeDefined();
  return token as string;
}

function linkTo(address: string, mails: readonly Mail[]): string {
  return tokenIn(mails.find(({ to }) => to === address) as Mail);
}

async function askForAddress(token: string, email: string): Promise<number> {
  const body = { email, current_password: PASSWORD };
  return (await t.ask("PATCH", "/user/settings", { token, body })).status;
}

const login = (loginname: string, password = PASSWORD) =>
  t.ask("POST", "/auth/basic/login", { body: { loginname, password } });
const verify = (token: string) => t.ask("GET", `/auth/verify-email?token=${token}`);
const reset = (loginname: string) => t.ask("POST", "/auth/password-reset", { body: { loginname } });
const confirm = (token: string, password = NEW_PASSWORD) =>
  t.ask("POST", "/auth/password-reset/confirm", { body: { token, password } });

async function register(username: string): Promise<string> {
  const body = { username, name: username, email: `${username}@example.com`, password: PASSWORD };
  const answer = await t.ask("POST", "/auth/basic/register", { body });
  expect(answer.status).toBe(200);
  return answer.body.message;
}

/** Links are sent a minute apart at most: as if it had passed. */
async function waitAMinute(): Promise<void> {
  await t.db
    .updateTable("account_token")
    .set({ created_at: sql`created_at - interval '2 minutes'` } as never)
    .execute();
}

test("who registers signs in once the link in the mail was followed, and the link is good once", async () => {
  await register("Vera");
  const refused = await login("Vera");
  expect([refused.status, refused.body.code]).toEqual([400, "bad_request"]);
  expect((await login("Vera", "Wr0ng-secret!")).body.code).toBe("invalid_credentials");

  const mails = await deliver();

  expect(mails).toMatchObject([{ to: "Vera@example.com", subject: "Verify your email address - Gradient" }]);
  const token = tokenIn(mails[0] as Mail);
  expect(mails[0]?.text).toContain(`\nhttps://ci.example.com/api/v1/auth/verify-email?token=${token}\n`);
  expect((await t.ask("HEAD", `/auth/verify-email?token=${token}`)).status).toBe(200);
  expect((await verify(token)).status).toBe(200);
  expect((await login("Vera")).status).toBe(200);
  expect((await verify(token)).status).toBe(400);
  const config = await t.ask("GET", "/config");
  expect(config.body.message).toMatchObject({ smtp_enabled: true, email_verification_enabled: true });
});

test("links that are unknown, cut short, too old, or for something else are refused alike", async () => {
  const id = await register("Late");
  const token = tokenIn((await deliver())[0] as Mail);
  const answers = [await confirm(token), await verify("x"), await verify("0".repeat(64)), await verify(token.slice(1))];
  await t.db.updateTable("account_token").set({ expires_at: sql`gradient_now()` }).where("user_id", "=", id).execute();
  answers.push(await verify(token));

  expect(answers.map(({ status }) => status)).toEqual([400, 400, 400, 400, 400]);
  expect(new Set(answers.map(({ text }) => text)).size).toBe(1);
  await tidyMails(t.deps, new AbortController().signal);
  expect(await t.db.selectFrom("account_token").select("id").where("user_id", "=", id).execute()).toEqual([]);
});

test("another verification mail can be had, once a minute, and nobody learns who waits for one", async () => {
  await register("Again");
  await deliver();
  const answers = [];
  for (const username of ["Again", "again@example.com", "Vera", "nobody", "x".repeat(900), " "]) {
    answers.push(await t.ask("POST", "/auth/resend-verification", { body: { username } }));
  }
  expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
  expect(await deliver()).toEqual([]);

  await waitAMinute();
  await t.ask("POST", "/auth/resend-verification", { body: { username: "Again" } });
  const mails = await deliver();
  expect(mails.map(({ to }) => to)).toEqual(["Again@example.com"]);
  expect((await verify(tokenIn(mails[0] as Mail))).status).toBe(200);
  await waitAMinute();
  await t.ask("POST", "/auth/resend-verification", { body: { username: "Again" } });
  expect(await deliver()).toEqual([]);
});

test("a forgotten password is set anew by a link to the address, and ends every session", async () => {
  const { id, token: session } = await t.user("Forgetful");
  expect((await reset("Forgetful@EXAMPLE.com")).status).toBe(200);
  const mails = await deliver();
  expect(mails.map(({ to }) => to)).toEqual(["Forgetful@example.com"]);
  const token = tokenIn(mails[0] as Mail);
  expect(mails[0]?.text).toContain(`\nhttps://ui.example.com/account/reset-password?token=${token}\n`);

  const weak = await confirm(token, "weak");
  expect([weak.status, weak.body.code]).toEqual([400, "invalid_password"]);
  expect((await confirm(token)).status).toBe(200);

  expect((await t.ask("GET", "/user", { token: session })).status).toBe(401);
  expect((await login("Forgetful")).status).toBe(401);
  expect((await login("Forgetful", NEW_PASSWORD)).status).toBe(200);
  expect((await confirm(token, PASSWORD)).status).toBe(400);
  expect((await deliver()).map(({ subject }) => subject)).toEqual(["Your password was changed - Gradient"]);
  const events = await t.db.selectFrom("audit_event").select("event").where("user_id", "=", id).execute();
  expect(events.map(({ event }) => event)).toContain("user.password_reset");
});

test("the link of a new password is used once, by however many that follow it at the same moment", async () => {
  await t.user("Raced");
  await reset("Raced");
  const token = tokenIn((await deliver())[0] as Mail);
  const passwords = Array.from({ length: 6 }, (_, i) => `${NEW_PASSWORD}-${i}Z`);

  const answers = await Promise.all(passwords.map((password) => confirm(token, password)));

  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
  const winner = answers.findIndex(({ status }) => status === 200);
  expect((await login("Raced", passwords[winner])).status).toBe(200);
});

test("asking for a new password is the same answer and the same work whoever is named", async () => {
  await t.user("Present");
  await t.db.updateTable("user_account").set({ active: false }).where("username", "=", "Vera").execute();
  const rows = async () =>
    (await t.db.selectFrom("mail").selectAll().execute()).map(({ kind, user_id }) => [kind, user_id]);
  await deliver();
  const answers = [];
  for (const name of ["Present", "Absent", "Vera", "nobody@example.com"]) {
    answers.push(await reset(name));
    expect(await rows()).toEqual(Array.from({ length: answers.length }, () => ["reset_password", null]));
  }

  expect(new Set(answers.map(({ status, text }) => `${status} ${text}`)).size).toBe(1);
  expect((await deliver()).map(({ to }) => to)).toEqual(["Present@example.com"]);
  expect(await rows()).toEqual([]);
});

test("nobody's mailbox is flooded: one link a minute, five in an hour, however often they are asked for", async () => {
  await t.user("Victim");
  await Promise.all(Array.from({ length: 5 }, () => reset("Victim")));
  await reset("victim@example.com");
  expect(await deliver()).toHaveLength(1);
  for (let minute = 0; minute < 8; minute++) {
    await waitAMinute();
    await reset("Victim");
  }
  await deliver();
  for (let minute = 0; minute < 8; minute++) {
    await waitAMinute();
    await reset("Victim");
    await deliver();
  }
  const user = t.db.selectFrom("user_account").select("id").where("username", "=", "Victim");
  const tokens = await t.db.selectFrom("account_token").select("id").where("user_id", "=", user).execute();
  expect(tokens).toHaveLength(5);
});

test("a link to an address that is not the user's any more sets no password", async () => {
  const { id } = await t.user("Relocated");
  await reset("Relocated");
  const token = tokenIn((await deliver())[0] as Mail);
  await t.db.updateTable("user_account").set({ email: "new@example.com" }).where("id", "=", id).execute();
  expect((await confirm(token)).status).toBe(400);
  expect((await login("Relocated")).status).toBe(400);
});

test("an account whose password is kept elsewhere gets a mail that says so, and no link", async () => {
  const { id } = await t.user("Provided");
  await t.db.updateTable("user_account").set({ password_hash: null }).where("id", "=", id).execute();
  const declared = await t.user("Declared");
  await t.db.updateTable("user_account").set({ managed: true }).where("id", "=", declared.id).execute();
  await reset("Provided");
  await reset("Declared");

  const mails = await deliver();

  expect(mails.map(({ to }) => to).sort()).toEqual(["Declared@example.com", "Provided@example.com"]);
  for (const { text } of mails) expect(text).not.toContain("token=");
  await reset("Provided");
  expect(await deliver()).toEqual([]);
});

test("whoever dies over a mail leaves it to the next, with the same id and the same link", async () => {
  await t.user("Survivor");
  await reset("Survivor");
  const begun = Promise.withResolvers<Mail>();
  const dying: Mailer = {
    send: (mail) => {
      begun.resolve(mail);
      return new Promise<never>(() => {});
    },
  };
  void deliverMails({ ...t.deps, mailer: dying });
  const first = await begun.promise;
  expect(await deliver()).toEqual([]);

  // The lease of the one that died is over.
  await t.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();
  const mails = await deliver();

  expect(mails).toEqual([first]);
  expect((await confirm(tokenIn(first))).status).toBe(200);
  expect((await deliver()).map(({ subject }) => subject)).toEqual(["Your password was changed - Gradient"]);
});

test("two that deliver at once send each mail once, and neither waits for the other", async () => {
  const names = Array.from({ length: 9 }, (_, i) => `Crowd${i}`);
  for (const name of names) await register(name);
  sent = [];
  const claims = await t.db.transaction().execute(async (trx) => {
    const one = await claimDueMails(trx, 6, 60_000);
    // Would wait for the other's commit, which comes after it, if it took notice of what the other has.
    return [...one, ...(await claimDueMails(t.db, 6, 60_000))].map(({ id }) => id);
  });
  expect(new Set(claims).size).toBe(9);
  await t.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();

  await Promise.all(Array.from({ length: 4 }, () => deliverMails({ ...t.deps, mailer: outbox })));
  await Promise.all(Array.from({ length: 4 }, () => deliverMails({ ...t.deps, mailer: outbox })));

  expect(sent.map(({ to }) => to).sort()).toEqual(names.map((name) => `${name}@example.com`));
});

test("a mail server that is away costs no mail, and one that refuses it ends the tries", async () => {
  await register("Patient");
  const away: Mailer = { send: () => Promise.reject(new Error("connect ECONNREFUSED")) };
  await deliver(away);
  const waiting = await t.db.selectFrom("mail").selectAll().executeTakeFirstOrThrow();
  expect(waiting).toMatchObject({ attempts: 1, error: "connect ECONNREFUSED", failed_at: null });
  expect(await deliver()).toEqual([]);
  await t.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();
  expect((await deliver()).map(({ to }) => to)).toEqual(["Patient@example.com"]);

  await register("Bouncing");
  await deliver({ send: () => Promise.reject(new MailRefusedError("550 no such mailbox")) });
  const failed = await t.db.selectFrom("mail").selectAll().executeTakeFirstOrThrow();
  expect(failed.failed_at).not.toBeNull();
  await t.db.updateTable("mail").set({ due_at: sql`gradient_now()` }).execute();
  expect(await deliver()).toEqual([]);
  await t.db.updateTable("mail").set({ failed_at: sql`gradient_now() - interval '31 days'` }).execute();
  await tidyMails(t.deps, new AbortController().signal);
  expect(await t.db.selectFrom("mail").select("id").execute()).toEqual([]);
});

test("no row holds what a link holds", async () => {
  await register("Hidden");
  const rows = async () =>
    JSON.stringify([
      await t.db.selectFrom("mail").selectAll().execute(),
      await t.db.selectFrom("account_token").select(sql<string>`encode(token_hash, 'hex')`.as("hash")).execute(),
    ]);
  const before = await rows();
  const token = tokenIn((await deliver())[0] as Mail);
  expect(before).not.toContain(token);
  expect(await rows()).not.toContain(token);
});

test("a new address is the user's once its link was followed, and the old one is told", async () => {
  const { id, token } = await t.user("Mover");
  const settings = async () => (await t.ask("GET", "/user/settings", { token })).body.message;
  const change = await t.ask("PATCH", "/user/settings", {
    token,
    body: { email: "moved@example.com", name: "Moved", current_password: PASSWORD },
  });
  expect(change.status).toBe(200);
  expect(change.body.message).toContain("moved@example.com");
  expect(await settings()).toMatchObject({ email: "Mover@example.com", name: "Moved" });
  const again = await t.ask("PATCH", "/user/settings", {
    token,
    body: { email: "other@example.com", current_password: PASSWORD },
  });
  expect([again.status, again.body.code]).toEqual([429, "too_many_requests"]);

  const mails = await deliver();
  expect(mails.map(({ to, subject }) => [to, subject]).sort()).toEqual([
    ["Mover@example.com", "Another email address was asked for - Gradient"],
    ["moved@example.com", "Verify your email address - Gradient"],
  ]);
  await reset("Mover");
  const toOld = tokenIn((await deliver())[0] as Mail);
  expect((await verify(linkTo("moved@example.com", mails))).status).toBe(200);

  expect(await settings()).toMatchObject({ email: "moved@example.com", email_verified: true });
  expect((await deliver()).map(({ to, subject }) => [to, subject])).toEqual([
    ["Mover@example.com", "Your email address was changed - Gradient"],
  ]);
  expect((await confirm(toOld)).status).toBe(400);
  const events = await t.db.selectFrom("audit_event").select("event").where("user_id", "=", id).execute();
  expect(events.map(({ event }) => event)).toContain("user.verify");
});

test("of two that want one address the first that follows its link gets it", async () => {
  const [one, two] = [await t.user("First"), await t.user("Second")];
  const tokens = [];
  for (const { token } of [one, two]) {
    expect(await askForAddress(token, "wanted@example.com")).toBe(200);
    tokens.push(linkTo("wanted@example.com", await deliver()));
  }
  const answers = await Promise.all(tokens.map((token) => verify(token as string)));
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 409]);
});

test("where everybody signs in at the identity provider, no password is set or reset", async () => {
  const oidc = { required: true, iconUrl: null };
  await using provided = await withApp({ mail: { verificationRequired: false }, oidc });
  const { token } = await provided.user("Guest");
  for (const [path, body] of [
    ["/auth/password-reset", { loginname: "Guest" }],
    ["/auth/password-reset/confirm", { token: "0".repeat(64), password: PASSWORD }],
    ["/user/password", { current_password: PASSWORD, new_password: NEW_PASSWORD }],
    ["/auth/basic/login", { loginname: "Guest", password: PASSWORD }],
  ] as const) {
    const { status, body: answer } = await provided.ask("POST", path, { body, token });
    expect([path, status, answer.code]).toEqual([path, 401, "oauth_required"]);
  }
  expect(await provided.db.selectFrom("mail").select("id").execute()).toEqual([]);
});

test("where addresses are not verified, a new one takes the password, and a session alone does not do", async () => {
  await using trusting = await withApp({ mail: { verificationRequired: false } });
  const { token } = await trusting.user("Trusting");
  const change = (body: object) => trusting.ask("PATCH", "/user/settings", { token, body });
  const moved = { email: "moved@example.com" };
  expect((await change(moved)).body).toMatchObject({
    code: "forbidden",
    message: expect.stringContaining("current_password"),
  });
  expect((await change({ ...moved, current_password: NEW_PASSWORD })).body.code).toBe("forbidden");
  expect((await change({ email: "Trusting@example.com", name: "T" })).status).toBe(200);
  expect((await change({ ...moved, current_password: PASSWORD })).status).toBe(200);
  const settings = await trusting.ask("GET", "/user/settings", { token });
  expect(settings.body.message).toMatchObject({ ...moved, email_verified: false, name: "T" });
});

test("where addresses are verified, a session alone cannot have a link sent to another address", async () => {
  const { token } = await t.user("Robbed");
  const change = (body: object) => t.ask("PATCH", "/user/settings", { token, body });
  const moved = { email: "thief@example.net" };
  expect((await change(moved)).body).toMatchObject({
    code: "forbidden",
    message: expect.stringContaining("current_password"),
  });
  expect((await change({ ...moved, current_password: NEW_PASSWORD })).body.code).toBe("forbidden");
  expect((await change({ email: "Robbed@example.com", name: "R" })).status).toBe(200);
  expect((await deliver()).filter(({ text }) => text.includes("Robbed"))).toEqual([]);
});

test("a new password and the end of all other sessions make links to other addresses useless", async () => {
  const remedies: Record<string, (token: string) => Promise<number>> = {
    Changes: async (token) => {
      const body = { current_password: PASSWORD, new_password: NEW_PASSWORD };
      return (await t.ask("POST", "/user/password", { token, body })).status;
    },
    Resets: async () => {
      await reset("Resets");
      return (await confirm(linkTo("Resets@example.com", await deliver()))).status;
    },
    Ends: async (token) => (await t.ask("DELETE", "/user/sessions", { token })).status,
  };
  for (const [name, remedy] of Object.entries(remedies)) {
    const { id, token } = await t.user(name);
    await t.db.updateTable("user_account").set({ email_verified: true }).where("id", "=", id).execute();
    expect(await askForAddress(token, `${name}-thief@example.net`)).toBe(200);
    const link = linkTo(`${name}-thief@example.net`, await deliver());
    expect([name, await remedy(token)]).toEqual([name, 200]);
    expect([name, (await verify(link)).status]).toEqual([name, 400]);
    const user = await t.db.selectFrom("user_account").select("email").where("id", "=", id).executeTakeFirstOrThrow();
    expect(user.email).toBe(`${name}@example.com`);
  }
});

test("a server without mail says so, and keeps no mails", async () => {
  await using silent = await withApp();
  const { token } = await silent.user("Plain");
  for (const [path, body] of [
    ["/auth/resend-verification", { username: "Plain" }],
    ["/auth/password-reset", { loginname: "Plain" }],
    ["/auth/password-reset/confirm", { token: "0".repeat(64), password: PASSWORD }],
  ] as const) {
    const { status, body: answer } = await silent.ask("POST", path, { body });
    expect([path, status, answer.code]).toEqual([path, 400, "bad_request"]);
  }
  const login = await silent.ask("POST", "/auth/basic/login", { body: { loginname: "Plain", password: PASSWORD } });
  expect(login.status).toBe(200);
  const change = await silent.ask("PATCH", "/user/settings", { token, body: { email: "other@example.com" } });
  expect(change.status).toBe(200);
  const settings = await silent.ask("GET", "/user/settings", { token });
  expect(settings.body.message).toMatchObject({ email: "other@example.com", email_verified: false });
  expect(await silent.db.selectFrom("mail").select("id").execute()).toEqual([]);
});

test("an account that came under the state file or a provider takes no address that was asked for before", async () => {
  for (const [name, columns] of [
    ["Under-state", { managed: true }],
    ["Under-provider", { password_hash: null }],
  ] as const) {
    const { id, token } = await t.user(name);
    const email = `${name}-new@example.com`;
    expect(await askForAddress(token, email)).toBe(200);
    const link = linkTo(email, await deliver());
    await t.db.updateTable("user_account").set(columns).where("id", "=", id).execute();
    expect([name, (await verify(link)).status]).toEqual([name, 400]);
    const { body } = await t.ask("GET", "/user/settings", { token });
    expect(body.message).toMatchObject({ email: `${name}@example.com` });
  }
});
