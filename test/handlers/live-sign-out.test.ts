import { afterAll, beforeAll, expect, test } from "vitest";
import { isLiveCredential } from "#core/db/sessions.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { insertBuild, insertEvaluationRow, insertProjectRow, linkBuild } from "../support/rows.ts";
import type { TestUser } from "./support.ts";

let api: BuildsApi;
let evaluationId: string;
let streams: readonly string[];
beforeAll(async () => {
  api = await withBuildsApi();
  const { organizationId } = api;
  const projectId = await insertProjectRow(api.db, { organizationId });
  const { name } = await api.db
    .selectFrom("project")
    .select("name")
    .where("id", "=", projectId)
    .executeTakeFirstOrThrow();
  evaluationId = await insertEvaluationRow(api.db, { organizationId, projectId });
  const build = await insertBuild(api.db, { organizationId, name: "tool", status: 2 });
  await linkBuild(api.db, evaluationId, build);
  streams = [`/evals/${evaluationId}/live`, `/projects/acme/${name}/live`];
});
afterAll(() => api[Symbol.asyncDispose]());

/** Opens a stream, waits for its first event, ends what it was opened with, and waits for its end. */
async function outlived(path: string, user: TestUser, end: () => Promise<unknown>): Promise<void> {
  const response = await api.fetch("GET", path, user);
  expect([path, response.status]).toEqual([path, 200]);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  expect((await reader.read()).done).toBe(false);
  await end();
  // Woken, it looks at once.
  const waker = setInterval(() => api.notifier.notify("evaluation", evaluationId), 200);
  try {
    while (!(await reader.read()).done);
  } finally {
    clearInterval(waker);
  }
}

async function key(): Promise<{ readonly id: string; readonly token: string }> {
  const made = await api.ask("POST", "/user/keys", api.viewer, { name: "live", permissions: ["viewOrg"] });
  const { id } = await api.db.selectFrom("api_key").select("id").executeTakeFirstOrThrow();
  return { id, token: made.message };
}

test("streams of who signs out, is deactivated, or loses or narrows the key end by themselves", {
  timeout: 60_000,
}, async () => {
  const { id, token } = await key();
  const revoke = (revoked_at: Date | null) =>
    api.db.updateTable("api_key").set({ revoked_at }).where("id", "=", id).execute();
  for (const path of streams) {
    await outlived(path, { ...api.viewer, token }, () => revoke(new Date()));
    await revoke(null);
  }
  const [live = ""] = streams;
  for (const narrowed of [{ permissions: ["createProject"] }, { allowed_ips: ["203.0.113.0/24"] }]) {
    const change = (body: object) => api.ask("PATCH", `/user/keys/${id}`, api.viewer, body);
    await change({ permissions: ["viewOrg"], allowed_ips: [] });
    await outlived(live, { ...api.viewer, token }, () => change(narrowed));
  }
  await outlived(live, api.writer, () => api.ask("POST", "/auth/logout", api.writer));
  await outlived(live, api.viewer, () =>
    api.db.updateTable("user_account").set({ active: false }).where("id", "=", api.viewer.id).execute(),
  );
});

test("a credential is alive while its row is, its time has not come, and its user is active", async () => {
  const { id: userId } = api.admin;
  const [sessionId, keyId, past] = [crypto.randomUUID(), crypto.randomUUID(), new Date(Date.now() - 1_000)];
  const alive = (more: object) => isLiveCredential(api.db, { userId, sessionId: null, keyId: null, ...more });
  expect(await alive({})).toBe(true);
  expect(await alive({ sessionId })).toBe(false);
  expect(await alive({ keyId })).toBe(false);
  const future = new Date(Date.now() + 600_000);
  await api.db.insertInto("session").values({ id: sessionId, user_id: userId, expires_at: future }).execute();
  const row = { id: keyId, owner_id: userId, name: "k", token_hash: new Uint8Array(32), permissions: 0 };
  await api.db.insertInto("api_key").values(row).execute();
  expect([await alive({ sessionId }), await alive({ keyId })]).toEqual([true, true]);
  await api.db.updateTable("session").set({ expires_at: past }).where("id", "=", sessionId).execute();
  await api.db.updateTable("api_key").set({ expires_at: past }).where("id", "=", keyId).execute();
  expect([await alive({ sessionId }), await alive({ keyId })]).toEqual([false, false]);
  expect(await alive({ userId: crypto.randomUUID() })).toBe(false);
});
