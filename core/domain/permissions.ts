/** Bit numbers of the permission masks in roles and API keys. The identifiers and their order are the API's. */
export const ORGANIZATION_PERMISSIONS = [
  "viewOrg",
  "manageOrgSettings",
  "deleteOrg",
  "manageMembers",
  "manageRoles",
  "manageIntegrations",
  "manageActions",
  "manageWorkers",
  "manageSubscriptions",
  "manageSshKey",
  "createProject",
  "editProject",
  "triggerEvaluation",
  "manageTriggers",
  "reportDeployments",
] as const;
export type OrganizationPermission = (typeof ORGANIZATION_PERMISSIONS)[number];

export const CACHE_PERMISSIONS = [
  "viewCache",
  "readStore",
  "writeStore",
  "manageCacheSettings",
  "manageCacheKeys",
  "manageCacheUpstreams",
  "manageCacheMembers",
  "manageCacheRoles",
  "manageCacheSubscriptions",
  "deleteCache",
] as const;
export type CachePermission = (typeof CACHE_PERMISSIONS)[number];

export const ORGANIZATION_ROLE = {
  Admin: "00000000-0000-0000-0000-000000000001",
  Write: "00000000-0000-0000-0000-000000000002",
  View: "00000000-0000-0000-0000-000000000003",
} as const;

export const CACHE_ROLE = {
  Admin: "00000000-0000-0000-0000-000000000011",
  Write: "00000000-0000-0000-0000-000000000012",
  View: "00000000-0000-0000-0000-000000000013",
} as const;

export function organizationMask(permissions: readonly OrganizationPermission[]): number {
  return permissions.reduce((mask, permission) => mask | bit(ORGANIZATION_PERMISSIONS, permission), 0);
}

export function cacheMask(permissions: readonly CachePermission[]): number {
  return permissions.reduce((mask, permission) => mask | bit(CACHE_PERMISSIONS, permission), 0);
}

export function allowsOrganization(mask: number, permission: OrganizationPermission): boolean {
  return (mask & bit(ORGANIZATION_PERMISSIONS, permission)) !== 0;
}

export function allowsCache(mask: number, permission: CachePermission): boolean {
  return (mask & bit(CACHE_PERMISSIONS, permission)) !== 0;
}

function bit<T extends string>(table: readonly T[], permission: T): number {
  return 1 << table.indexOf(permission);
}

/** The identifiers in a mask, in the order of their bits. */
export function organizationPermissionsIn(mask: number): OrganizationPermission[] {
  return ORGANIZATION_PERMISSIONS.filter((permission) => allowsOrganization(mask, permission));
}

export function cachePermissionsIn(mask: number): CachePermission[] {
  return CACHE_PERMISSIONS.filter((permission) => allowsCache(mask, permission));
}

export function isOrganizationPermission(text: string): text is OrganizationPermission {
  return (ORGANIZATION_PERMISSIONS as readonly string[]).includes(text);
}

export function isCachePermission(text: string): text is CachePermission {
  return (CACHE_PERMISSIONS as readonly string[]).includes(text);
}

/** Whether using the permission changes something. */
export function isMutating(permission: OrganizationPermission | CachePermission): boolean {
  return permission !== "viewOrg" && permission !== "viewCache" && permission !== "readStore";
}
