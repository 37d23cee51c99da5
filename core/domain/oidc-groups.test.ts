import fc from "fast-check";
import { expect, test } from "vitest";
import { type GroupChange, groupChanges, type OfferedRole, type Standing } from "./oidc-groups.ts";

const role = fc.record({
  organizationId: fc.constantFrom("a", "b", "c"),
  roleId: fc.constantFrom("r1", "r2", "r3", "r4"),
});
/** The same role has the same name and permissions everywhere. */
const PERMISSIONS: Readonly<Record<string, number>> = { r1: 0b1, r2: 0b110, r3: 0b111, r4: 2 ** 13 };
const permissionsOf = (roleId: string): number => PERMISSIONS[roleId] as number;
const offered = fc.array(
  role.map((some): OfferedRole => ({ ...some, name: some.roleId, permissions: permissionsOf(some.roleId) })),
);

/** What a member has after the change, as the database would. */
function apply(standings: readonly Standing[], changes: readonly GroupChange[]): Standing[] {
  const after = new Map(standings.map((standing) => [standing.organizationId, standing]));
  for (const change of changes) {
    const { organizationId, kind } = change;
    if (kind === "leave") {
      after.delete(organizationId);
      continue;
    }
    const ownId = "ownRoleId" in change ? change.ownRoleId : null;
    const own = ownId === null ? null : { roleId: ownId, permissions: permissionsOf(ownId) };
    const mark = kind === "return" ? null : { own };
    after.set(organizationId, {
      organizationId,
      roleId: change.roleId,
      permissions: permissionsOf(change.roleId),
      mark,
    });
  }
  return [...after.values()];
}

const byOrganization = (standings: readonly Standing[]) =>
  standings.map((standing) => ({ ...standing })).sort((a, b) => (a.organizationId < b.organizationId ? -1 : 1));

const handMade = fc
  .uniqueArray(role, { selector: ({ organizationId }) => organizationId })
  .map((some) =>
    some.map((standing): Standing => ({ ...standing, permissions: permissionsOf(standing.roleId), mark: null })),
  );

test("whatever groups come and go, without any everything is as people made it", () => {
  fc.assert(
    fc.property(handMade, fc.array(offered, { maxLength: 5 }), (before, logins) => {
      let standings: Standing[] = [...before];
      for (const groups of logins) standings = apply(standings, groupChanges(groups, standings));
      expect(byOrganization(apply(standings, groupChanges([], standings)))).toEqual(byOrganization(before));
    }),
  );
});

test("the same groups again change nothing, and nobody has fewer permissions by a group than people gave", () => {
  fc.assert(
    fc.property(handMade, offered, offered, (before, first, second) => {
      const then = apply(before, groupChanges(first, before));
      const now = apply(then, groupChanges(second, then));
      expect(groupChanges(second, now)).toEqual([]);
      expect(groupChanges([...second].reverse(), now)).toEqual([]);
      const bits = (mask: number) => mask.toString(2).replaceAll("0", "").length;
      for (const { organizationId, permissions } of before) {
        const held = now.find((standing) => standing.organizationId === organizationId);
        expect(bits(held?.permissions ?? 0)).toBeGreaterThanOrEqual(bits(permissions));
      }
    }),
  );
});
