/** A role of an organization that a group of the user gives. */
export interface OfferedRole {
  readonly organizationId: string;
  readonly roleId: string;
  readonly name: string;
  readonly permissions: number;
}

/** What the user is in one organization now. */
export interface Standing {
  readonly organizationId: string;
  readonly roleId: string;
  readonly permissions: number;
  /** Set when a group gave the role; null where people did. */
  readonly mark: GroupMark | null;
}

export interface GroupMark {
  /** What people gave the member; null: nothing. */
  readonly own: { readonly roleId: string; readonly permissions: number } | null;
}

export type GroupChange = { readonly organizationId: string } & (
  | { readonly kind: "join" | "switch"; readonly roleId: string; readonly ownRoleId: string | null }
  | { readonly kind: "return"; readonly roleId: string }
  | { readonly kind: "leave" }
);

/**
 * What must change so that the user has what the groups give, or what people gave where that is as much. Of several
 * roles in one organization the one with more permissions counts. What people gave is never taken away.
 */
export function groupChanges(offered: readonly OfferedRole[], standings: readonly Standing[]): GroupChange[] {
  const best = bestRoles(offered);
  const known = new Map(standings.map((standing) => [standing.organizationId, standing]));
  const changes = [...best.values()].map((role) => changeTo(role, known.get(role.organizationId)));
  for (const standing of standings) {
    if (!best.has(standing.organizationId)) changes.push(changeWithout(standing));
  }
  return changes.filter((change) => change !== null);
}

function bestRoles(offered: readonly OfferedRole[]): Map<string, OfferedRole> {
  const best = new Map<string, OfferedRole>();
  for (const role of offered) {
    const other = best.get(role.organizationId);
    if (!other || compare(role, other) > 0) best.set(role.organizationId, role);
  }
  return best;
}

/** Above zero when the first gives more. Names decide where both give as much: the answer is always the same. */
function compare(a: OfferedRole, b: OfferedRole): number {
  return count(a.permissions) - count(b.permissions) || (a.name < b.name ? 1 : -1);
}

function changeTo(role: OfferedRole, standing: Standing | undefined): GroupChange | null {
  const { organizationId, roleId } = role;
  if (!standing) return { kind: "join", organizationId, roleId, ownRoleId: null };
  const { mark } = standing;
  const own = mark ? mark.own : standing;
  if (own && count(role.permissions) <= count(own.permissions)) return changeWithout(standing);
  if (mark && standing.roleId === roleId) return null;
  return { kind: "switch", organizationId, roleId, ownRoleId: own?.roleId ?? null };
}

function changeWithout({ organizationId, mark }: Standing): GroupChange | null {
  if (!mark) return null;
  return mark.own ? { kind: "return", organizationId, roleId: mark.own.roleId } : { kind: "leave", organizationId };
}

/** How many permissions are in a mask. */
function count(permissions: number): number {
  let left = permissions;
  let bits = 0;
  for (; left > 0; left = Math.floor(left / 2)) bits += left % 2;
  return bits;
}
