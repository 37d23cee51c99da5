import fc from "fast-check";
import { expect, test } from "vitest";
import { type CacheStanding, cacheAccess, keyMayCreate, organizationAccess } from "./access.ts";
import { type Actor, type ActorKey, ANONYMOUS } from "./actor.ts";
import { cacheMask, cachePermissionsIn, organizationMask, organizationPermissionsIn } from "./permissions.ts";
import { SubscriptionMode } from "./subscription.ts";

const ALL = ~0;
const session: Actor = { user: { id: "u", username: "u", superuser: true }, key: null, sessionId: "s" };

function withKey(key: Partial<ActorKey>): Actor {
  return {
    ...session,
    sessionId: null,
    key: { id: "k", permissions: ALL, organizationId: null, cacheId: null, ...key },
  };
}

const red = { id: "red", public: false, rolePermissions: organizationMask(["viewOrg", "editProject"]) };

test("a superuser is no member of anything by that", () => {
  expect(organizationAccess(session, { ...red, rolePermissions: null })).toEqual({
    visible: false,
    member: false,
    mask: 0,
  });
});

test("a key has what both it and its owner's role have", () => {
  const { mask } = organizationAccess(withKey({ permissions: organizationMask(["editProject", "deleteOrg"]) }), red);
  expect(organizationPermissionsIn(mask)).toEqual(["editProject"]);
});

test("outside its pin a key's owner is a stranger", () => {
  const none = { visible: false, member: false, mask: 0 };
  expect(organizationAccess(withKey({ organizationId: "blue" }), red)).toEqual(none);
  expect(organizationAccess(withKey({ cacheId: "c" }), red)).toEqual(none);
  expect(organizationAccess(withKey({ organizationId: "red" }), red).member).toBe(true);
  expect(organizationAccess(withKey({ organizationId: "blue" }), { ...red, public: true }).visible).toBe(true);
});

const cache: CacheStanding = { id: "c", public: false, rolePermissions: ALL, subscriptions: [] };
const reads = (organizationId: string, mode: SubscriptionMode = SubscriptionMode.ReadWrite) => ({
  organizationId,
  mode,
});

function permissions(actor: Actor, standing: Partial<CacheStanding>): string[] {
  return cachePermissionsIn(cacheAccess(actor, { ...cache, ...standing }).mask);
}

test("a subscribing organization's members read a cache; one that only writes opens its store to nobody", () => {
  expect(permissions(session, { rolePermissions: null, subscriptions: [reads("red")] })).toEqual([
    "viewCache",
    "readStore",
  ]);
  const writeOnly = reads("red", SubscriptionMode.WriteOnly);
  expect(permissions(session, { rolePermissions: null, subscriptions: [writeOnly] })).toEqual(["viewCache"]);
  expect(permissions(ANONYMOUS, { rolePermissions: null })).toEqual([]);
  expect(permissions(ANONYMOUS, { rolePermissions: null, public: true })).toEqual(["viewCache", "readStore"]);
});

test("a key without a pin to a cache uses there what it may use in organizations", () => {
  expect(permissions(withKey({ permissions: organizationMask(["viewOrg"]) }), {})).toEqual(["viewCache", "readStore"]);
  expect(permissions(withKey({ permissions: organizationMask(["editProject"]) }), {})).toContain("writeStore");
  expect(permissions(withKey({}), {})).toHaveLength(10);
});

test("a key pinned to an organization reaches the caches that this one subscribes to", () => {
  const pinned = withKey({ organizationId: "red" });
  expect(permissions(pinned, {})).toEqual([]);
  expect(permissions(pinned, { subscriptions: [reads("blue")] })).toEqual([]);
  expect(permissions(pinned, { subscriptions: [reads("red")] })).toHaveLength(10);
});

test("a key pinned to a cache has its own mask there and nothing elsewhere", () => {
  const pinned = withKey({ cacheId: "c", permissions: cacheMask(["writeStore"]) });
  expect(permissions(pinned, {})).toEqual(["writeStore"]);
  expect(permissions(pinned, { id: "d" })).toEqual([]);
  const reader = withKey({ cacheId: "c", permissions: cacheMask(["readStore"]) });
  expect(permissions(reader, { rolePermissions: null, subscriptions: [reads("red")] })).toEqual(["readStore"]);
});

test("only a key without a pin creates, when it may manage what it creates", () => {
  const manage = organizationMask(["manageOrgSettings"]);
  const key = (more: Partial<ActorKey>) => withKey({ permissions: manage, ...more }).key;
  expect(keyMayCreate(null)).toBe(true);
  expect(keyMayCreate(key({}))).toBe(true);
  expect(keyMayCreate(key({ permissions: 1 }))).toBe(false);
  expect(keyMayCreate(key({ organizationId: "red" }))).toBe(false);
  expect(keyMayCreate(key({ cacheId: "c" }))).toBe(false);
});

test("through whatever key, its owner may and sees no more than without it", () => {
  const id = fc.constantFrom("one", "two");
  const mask = fc.nat(0x3fff);
  const key = fc.record({ permissions: mask, organizationId: fc.option(id), cacheId: fc.option(id) });
  const standing = fc.record({ id, public: fc.boolean(), rolePermissions: fc.option(mask) });
  const mode = fc.constantFrom(...Object.values(SubscriptionMode));
  const subscriptions = fc.array(fc.record({ organizationId: id, mode }), { maxLength: 3 });
  fc.assert(
    fc.property(key, standing, subscriptions, (pinned, there, subscribed) => {
      for (const look of [
        (actor: Actor) => organizationAccess(actor, there),
        (actor: Actor) => cacheAccess(actor, { ...there, subscriptions: subscribed }),
      ]) {
        const [narrow, wide] = [look(withKey(pinned)), look(session)];
        expect(narrow.mask & ~wide.mask).toBe(0);
        expect([narrow.visible && !wide.visible, narrow.member && !wide.member]).toEqual([false, false]);
      }
    }),
  );
});
