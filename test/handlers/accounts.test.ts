import { expect, test } from "vitest";
import { ANONYMOUS } from "#core/domain/actor.ts";
import {
  ensureCache,
  ensureOrganization,
  ensureSubscription,
  ensureUser,
  ensureWorker,
} from "#core/services/accounts.ts";
import { authorizeWorker } from "#core/services/worker-auth.ts";
import { PASSWORD, withApp } from "./support.ts";

const user = { username: "Operator", name: "Operator", email: "op@example.com", password: PASSWORD, superuser: true };
const organization = { name: "start", display_name: "S", description: "", public: false, hide_build_requests: false };
const cache = { name: "start", display_name: "S", description: "", public: true, priority: 40, max_storage_gb: 0 };

test("what is set up may be set up again: nothing is doubled, and a new worker token takes effect", async () => {
  await using t = await withApp({ createOrganization: "superusers", createCache: "superusers" });
  const worker = { workerId: crypto.randomUUID(), displayName: "Here" };
  const setUp = async (tokenByte: number) => {
    const actor = await ensureUser(t.deps, user);
    const ids = [await ensureOrganization(t.deps, actor, organization), await ensureCache(t.deps, actor, cache)];
    await ensureSubscription(t.deps, actor, { organization: "start", cache: "start" }, "ReadWrite");
    const token = Buffer.alloc(48, tokenByte).toString("base64");
    const peer = await ensureWorker(t.deps, actor, "start", { ...worker, token });
    const { grants } = await authorizeWorker(t.deps, worker.workerId, [{ peer, token }]);
    expect(grants).toHaveLength(1);
    return { actor, ids, peer };
  };
  expect(await setUp(2)).toEqual(await setUp(1));
  expect(await setUp(2)).toEqual(await setUp(2));
  const count = async (table: "user_account" | "organization" | "organization_cache" | "worker_registration") =>
    (await t.db.selectFrom(table).select("id").execute()).length;
  for (const table of ["user_account", "organization", "organization_cache", "worker_registration"] as const) {
    expect([table, await count(table)]).toEqual([table, 1]);
  }
});

test("setting up takes the same permissions as the API does", async () => {
  await using t = await withApp({ createOrganization: "superusers" });
  const plain = await t.user("Plain");
  await expect(ensureOrganization(t.deps, plain.actor, organization)).rejects.toThrow("superusers");
  await expect(ensureOrganization(t.deps, ANONYMOUS, organization)).rejects.toThrow("Authentication is required");
  const root = await t.user("Rooty", { superuser: true });
  await ensureOrganization(t.deps, root.actor, organization);
  const token = Buffer.alloc(48).toString("base64");
  const worker = { workerId: crypto.randomUUID(), displayName: "W", token };
  await expect(ensureWorker(t.deps, plain.actor, "start", worker)).rejects.toThrow("not found");
});
