import type { Actor, ActorKey } from "./actor.ts";
import {
  allowsOrganization,
  CACHE_PERMISSIONS,
  type CachePermission,
  cacheMask,
  type OrganizationPermission,
} from "./permissions.ts";
import { SubscriptionMode } from "./subscription.ts";

/** What an actor may do with one organization or cache. */
export interface Access {
  /** The actor may know that it exists. */
  readonly visible: boolean;
  /** The actor belongs to it; a key that is pinned elsewhere does not. */
  readonly member: boolean;
  readonly mask: number;
}

/** The permissions of the actor's role; null for who is no member. */
export interface OrganizationStanding {
  readonly id: string;
  readonly public: boolean;
  readonly rolePermissions: number | null;
}

export interface CacheStanding {
  readonly id: string;
  readonly public: boolean;
  readonly rolePermissions: number | null;
  /** The subscriptions of those organizations that the actor is a member of. */
  readonly subscriptions: readonly { readonly organizationId: string; readonly mode: SubscriptionMode }[];
}

/** What a key without a pin to a cache must hold to use each permission its owner has on caches. */
const NEEDED_OF_KEY: Readonly<Record<CachePermission, OrganizationPermission | null>> = {
  viewCache: null,
  readStore: null,
  writeStore: "editProject",
  manageCacheSettings: "manageOrgSettings",
  manageCacheKeys: "manageSshKey",
  manageCacheUpstreams: "manageOrgSettings",
  manageCacheMembers: "manageMembers",
  manageCacheRoles: "manageRoles",
  manageCacheSubscriptions: "manageSubscriptions",
  deleteCache: "deleteOrg",
};
const READ_CACHE = cacheMask(["viewCache", "readStore"]);
const VIEW_CACHE = cacheMask(["viewCache"]);

/** A key never gives more than its owner's role, nor anything outside its pin. */
export function organizationAccess(actor: Actor, organization: OrganizationStanding): Access {
  const role = actor.user && reachesOrganization(actor.key, organization.id) ? organization.rolePermissions : null;
  const member = role !== null;
  const mask = (role ?? 0) & (actor.key?.permissions ?? ~0);
  return { visible: organization.public || member, member, mask };
}

/**
 * Permissions come from the actor's role in the cache; a member of a subscribing organization reads. A write-only
 * subscription shows the cache and does not open its store.
 */
export function cacheAccess(actor: Actor, cache: CacheStanding): Access {
  const { key } = actor;
  const subscriptions = cache.subscriptions.filter(({ organizationId }) => reachesOrganization(key, organizationId));
  let mask = 0;
  if (actor.user && reachesCache(key, cache.id, subscriptions.length > 0)) {
    mask = cache.rolePermissions ?? 0;
    // A key pinned to a cache reaches no organization, yet its owner reads this cache through one.
    const readers = key?.cacheId ? cache.subscriptions : subscriptions;
    for (const { mode } of readers) mask |= mode === SubscriptionMode.WriteOnly ? VIEW_CACHE : READ_CACHE;
    mask &= cacheMaskOfKey(key);
  }
  const member = mask !== 0;
  return { visible: cache.public || member, member, mask: cache.public ? mask | READ_CACHE : mask };
}

/** The cache permissions that a key lets through, whatever its owner has. */
export function cacheMaskOfKey(key: ActorKey | null): number {
  if (!key) return ~0;
  if (key.cacheId) return key.permissions;
  return cacheMask(
    CACHE_PERMISSIONS.filter((permission) => {
      const needed = NEEDED_OF_KEY[permission];
      return needed === null || allowsOrganization(key.permissions, needed);
    }),
  );
}

/** Whether a key lets its owner create organizations and caches: what is new lies outside every pin. */
export function keyMayCreate(key: ActorKey | null): boolean {
  if (!key) return true;
  return (
    key.organizationId === null && key.cacheId === null && allowsOrganization(key.permissions, "manageOrgSettings")
  );
}

function reachesOrganization(key: ActorKey | null, organizationId: string): boolean {
  if (!key) return true;
  return key.cacheId === null && (key.organizationId === null || key.organizationId === organizationId);
}

function reachesCache(key: ActorKey | null, cacheId: string, subscribed: boolean): boolean {
  if (!key) return true;
  if (key.cacheId) return key.cacheId === cacheId;
  return key.organizationId === null || subscribed;
}
