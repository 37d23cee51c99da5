import type { Kysely, Transaction } from "kysely";
import { CACHE_TABLES, lockRealm, ORGANIZATION_TABLES, type Realm } from "../db/realms.ts";
import type { Database } from "../db/schema.ts";
import { inTransaction } from "../db/transaction.ts";
import type { Actor } from "../domain/actor.ts";
import { CACHE_ROLE, ORGANIZATION_ROLE } from "../domain/permissions.ts";
import { DomainError } from "../errors.ts";
import { type NeedOptions, requireCache, requireOrganization } from "./access.ts";
import type { AuditRecord } from "./audit.ts";

/** What people are members of, by its name. */
export type RealmName = { readonly organization: string } | { readonly cache: string };

/** `look`: as a member. The other two change something, and what the configuration declares refuses them. */
export type RealmNeed = "look" | "members" | "roles";

export interface RealmAccess {
  readonly realm: Realm;
  readonly kind: "organization" | "cache";
  /** What the actor may do there. */
  readonly mask: number;
  /** The built-in role of which one member at least stays. */
  readonly adminRoleId: string;
  /** What an audit record of the realm holds. */
  readonly audit: Pick<AuditRecord, "organizationId" | "cacheId" | "metadata">;
}

const UNMANAGED: NeedOptions = { unmanaged: true };
const ORGANIZATION_NEEDS = { look: "member", members: "manageMembers", roles: "manageRoles" } as const;
const CACHE_NEEDS = { look: "member", members: "manageCacheMembers", roles: "manageCacheRoles" } as const;

/** Throws as `requireOrganization` and `requireCache` do. */
export async function requireRealm(
  db: Kysely<Database>,
  actor: Actor,
  name: RealmName,
  need: RealmNeed,
): Promise<RealmAccess> {
  const options = need === "look" ? {} : UNMANAGED;
  if ("organization" in name) {
    const access = await requireOrganization({ db }, actor, name.organization, ORGANIZATION_NEEDS[need], options);
    const { id } = access.organization;
    return {
      realm: { tables: ORGANIZATION_TABLES, id },
      kind: "organization",
      mask: access.mask,
      adminRoleId: ORGANIZATION_ROLE.Admin,
      audit: { organizationId: id, metadata: { organization: access.organization.name } },
    };
  }
  const { cache, mask } = await requireCache({ db }, actor, name.cache, CACHE_NEEDS[need], options);
  return {
    realm: { tables: CACHE_TABLES, id: cache.id },
    kind: "cache",
    mask,
    adminRoleId: CACHE_ROLE.Admin,
    audit: { cacheId: cache.id, metadata: { cache: cache.name } },
  };
}

/**
 * Changes roles or members, in one transaction that nobody else's change of the same realm overlaps. The body gets what
 * the actor may do once its turn has come: who was demoted while waiting does nothing any more.
 */
export async function changeRealm<T>(
  db: Kysely<Database>,
  actor: Actor,
  { name, need }: { readonly name: RealmName; readonly need: RealmNeed },
  body: (trx: Transaction<Database>, access: RealmAccess) => Promise<T>,
): Promise<T> {
  const { realm } = await requireRealm(db, actor, name, need);
  return await inTransaction(db, async (trx) => {
    await lockRealm(trx, realm);
    const access = await requireRealm(trx, actor, name, need);
    if (access.realm.id !== realm.id) {
      // The name is that of another one by now.
      throw new DomainError("not_found", access.kind === "cache" ? "Cache not found" : "Organization not found");
    }
    return await body(trx, access);
  });
}

/** Nobody gives, takes or changes what goes beyond their own permissions. */
export function refuseMoreThan(own: number, permissions: number, message: string): void {
  if ((permissions & ~own) !== 0) throw new DomainError("forbidden", message);
}
