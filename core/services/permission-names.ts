import {
  CACHE_PERMISSIONS,
  cacheMask,
  isCachePermission,
  isMutating,
  isOrganizationPermission,
  ORGANIZATION_PERMISSIONS,
  organizationMask,
} from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";

/** A permission as the API lists it. */
export interface ListedPermission {
  readonly id: string;
  readonly mutating: boolean;
}

/** Throws `validation` for a name that is no permission of organizations. */
export function organizationMaskOf(names: readonly string[]): number {
  return organizationMask(
    names.map((name) => {
      if (isOrganizationPermission(name)) return name;
      throw unknownPermission(name, ORGANIZATION_PERMISSIONS);
    }),
  );
}

/** Throws `validation` for a name that is no permission of caches. */
export function cacheMaskOf(names: readonly string[]): number {
  return cacheMask(
    names.map((name) => {
      if (isCachePermission(name)) return name;
      throw unknownPermission(name, CACHE_PERMISSIONS);
    }),
  );
}

export function listOrganizationPermissions(): ListedPermission[] {
  return ORGANIZATION_PERMISSIONS.map((id) => ({ id, mutating: isMutating(id) }));
}

export function listCachePermissions(): ListedPermission[] {
  return CACHE_PERMISSIONS.map((id) => ({ id, mutating: isMutating(id) }));
}

function unknownPermission(name: string, known: readonly string[]): DomainError {
  return new DomainError("validation", `permissions: \`${name}\` is not one of ${known.join(", ")}`);
}
