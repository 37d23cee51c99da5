import { afterAll, beforeAll, expect, test } from "vitest";
import { ORGANIZATION_ROLE, type OrganizationPermission, organizationMask } from "#core/domain/permissions.ts";
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

async function organization(name: string): Promise<string> {
  const id = uuidV7(Date.now());
  const keys = { ssh_public_key: "ssh-ed25519 AAAA", ssh_secret_key: Uint8Array.of(1) };
  await site.t.db
    .insertInto("organization")
    .values({ id, name, display_name: name, description: "", ...keys })
    .execute();
  return id;
}

async function role(
  organizationId: string,
  name: string,
  { permissions, groups }: { permissions: readonly OrganizationPermission[]; groups: string[] },
): Promise<string> {
  const id = uuidV7(Date.now());
  const row = { id, organization_id: organizationId, name, permissions: organizationMask(permissions) };
  await site.t.db
    .insertInto("role")
    .values({ ...row, oidc_groups: groups })
    .execute();
  return id;
}

/** What the user is in each organization, and whether by a group. */
async function standings(userId: string): Promise<Record<string, string>> {
  const rows = await site.t.db
    .selectFrom("organization_member as m")
    .innerJoin("organization as o", "o.id", "m.organization_id")
    .innerJoin("role as r", "r.id", "m.role_id")
    .leftJoin("group_membership as g", (join) =>
      join.onRef("g.organization_id", "=", "m.organization_id").onRef("g.user_id", "=", "m.user_id"),
    )
    .select(["o.name as organization", "r.name as role", "g.role_id as mark"])
    .where("m.user_id", "=", userId)
    .execute();
  return Object.fromEntries(rows.map((row) => [row.organization, row.mark ? `${row.role} by group` : row.role]));
}

/** Signs in with these groups; undefined: the provider says nothing of groups. */
async function withGroups(sub: string, groups: unknown, more: Record<string, unknown> = {}) {
  const user = await site.signedIn(provider, { sub, preferred_username: sub, groups, ...more });
  return { id: user.id, standings: await standings(user.id) };
}

async function give(userId: string, organizationId: string, roleId: string): Promise<void> {
  await site.t.db
    .insertInto("organization_member")
    .values({ organization_id: organizationId, user_id: userId, role_id: roleId })
    .onConflict((conflict) => conflict.columns(["organization_id", "user_id"]).doUpdateSet({ role_id: roleId }))
    .execute();
}

test("a group makes its people members, and takes that back when it goes", async () => {
  const acme = await organization("acme");
  await role(acme, "deployers", { permissions: ["viewOrg", "triggerEvaluation"], groups: ["/acme/deploy", "ops"] });
  expect((await withGroups("joiner", [])).standings).toEqual({});
  expect((await withGroups("joiner", ["other", "ops"])).standings).toEqual({ acme: "deployers by group" });
  expect((await withGroups("joiner", ["OPS"])).standings).toEqual({});
  expect((await withGroups("joiner", "ops")).standings).toEqual({ acme: "deployers by group" });
  const { id, standings: last } = await withGroups("joiner", undefined);
  expect(last).toEqual({});
  const events = await site.t.db
    .selectFrom("audit_event")
    .select(["event", "metadata"])
    .where("user_id", "=", id)
    .where("organization_id", "=", acme)
    .orderBy("created_at")
    .execute();
  expect(events.map(({ event }) => event.split(".").at(-1))).toEqual(["add", "remove", "add", "remove"]);
  expect(events[0]?.metadata).toEqual({ by: "oidc_group", user: "joiner", role: "deployers" });
});

test("a group that is told at the userinfo endpoint counts the same", async () => {
  const told = await organization("told");
  await role(told, "people", { permissions: ["viewOrg"], groups: ["told-people"] });
  const claims = { sub: "told", preferred_username: "told" };
  const user = await site.signedIn(provider, claims, { groups: ["told-people"] });
  expect(await standings(user.id)).toEqual({ told: "people by group" });
});

test("of two roles the one with more permissions counts, and changes with the groups", async () => {
  const beta = await organization("beta");
  await role(beta, "readers", { permissions: ["viewOrg"], groups: ["staff"] });
  await role(beta, "leads", { permissions: ["viewOrg", "createProject", "editProject"], groups: ["leads"] });
  expect((await withGroups("climber", ["staff"])).standings).toEqual({ beta: "readers by group" });
  expect((await withGroups("climber", ["leads", "staff"])).standings).toEqual({ beta: "leads by group" });
  expect((await withGroups("climber", ["staff"])).standings).toEqual({ beta: "readers by group" });
});

test("what people gave is raised by a group, and is there again when the group goes", async () => {
  const gamma = await organization("gamma");
  const small = await role(gamma, "small", { permissions: ["viewOrg"], groups: [] });
  await role(gamma, "large", { permissions: ["viewOrg", "createProject"], groups: ["large"] });
  const { id } = await withGroups("raised", []);
  await give(id, gamma, small);
  expect((await withGroups("raised", ["large"])).standings).toEqual({ gamma: "large by group" });
  expect((await withGroups("raised", [])).standings).toEqual({ gamma: "small" });
  await give(id, gamma, ORGANIZATION_ROLE.Admin);
  expect((await withGroups("raised", ["large"])).standings).toEqual({ gamma: "Admin" });
  expect((await withGroups("raised", [])).standings).toEqual({ gamma: "Admin" });
});

test("who gets a role from people after a group gave one keeps it when the group goes", async () => {
  const delta = await organization("delta");
  const grouped = await role(delta, "grouped", { permissions: ["viewOrg"], groups: ["delta"] });
  const { id } = await withGroups("promoted", ["delta"]);
  await give(id, delta, ORGANIZATION_ROLE.Write);
  expect((await withGroups("promoted", ["delta"])).standings).toEqual({ delta: "Write" });
  // Back to the role that the group gave, and that by people now.
  await give(id, delta, grouped);
  expect((await withGroups("promoted", [])).standings).toEqual({ delta: "grouped" });
});

test("a member whom people removed comes back with the group, and leaves with it", async () => {
  const epsilon = await organization("epsilon");
  await role(epsilon, "crew", { permissions: ["viewOrg"], groups: ["crew"] });
  const { id } = await withGroups("removed", ["crew"]);
  await site.t.db.deleteFrom("organization_member").where("user_id", "=", id).execute();
  expect(await standings(id)).toEqual({});
  expect((await withGroups("removed", ["crew"])).standings).toEqual({ epsilon: "crew by group" });
  expect((await withGroups("removed", [])).standings).toEqual({});
});

test("where the provider does not tell the groups here, memberships stay as they are", async () => {
  const zeta = await organization("zeta");
  await role(zeta, "many", { permissions: ["viewOrg"], groups: ["many"] });
  await withGroups("overage", ["many"]);
  const elsewhere = { _claim_names: { groups: "src1" }, _claim_sources: { src1: { endpoint: "https://x.example" } } };
  expect((await withGroups("overage", undefined, elsewhere)).standings).toEqual({ zeta: "many by group" });
  expect(site.lastWarning()?.message).toMatch(/does not tell a user's groups/);
});

test("a role that no group gives any more is taken back, too", async () => {
  const eta = await organization("eta");
  const id = await role(eta, "once", { permissions: ["viewOrg"], groups: ["eta"] });
  expect((await withGroups("mapped", ["eta"])).standings).toEqual({ eta: "once by group" });
  await site.t.db.updateTable("role").set({ oidc_groups: [] }).where("id", "=", id).execute();
  expect((await withGroups("mapped", ["eta"])).standings).toEqual({});
});

test("whom the operator's state expects is a member at once, and only who has that name at the provider", async () => {
  const theta = await organization("theta");
  const write = ORGANIZATION_ROLE.Write;
  await site.t.db
    .insertInto("pending_member")
    .values({ organization_id: theta, role_id: write, username: "Expected-One" })
    .execute();
  const near = await site.signedIn(provider, { sub: "near", preferred_username: "expected.one" });
  expect([near.username, await standings(near.id)]).toEqual(["expected-one-2", {}]);
  expect((await withGroups("expected-one", [])).standings).toEqual({ theta: "Write" });
});
