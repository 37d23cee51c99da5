import * as v from "valibot";
import type { PermissionView } from "./keys.ts";
import { nameText, text } from "./text.ts";

const permissions = v.pipe(
  v.array(text(64)),
  v.minLength(1, "must name at least one permission; the list of roles shows them"),
  v.maxLength(64, "names more permissions than there are"),
);

/** `POST /orgs/{org}/roles`, and the same of caches. */
export const CreateRoleBody = v.object({ name: nameText, permissions }) satisfies v.GenericSchema<
  unknown,
  CreateRoleBody
>;
export interface CreateRoleBody {
  readonly name: string;
  readonly permissions: readonly string[];
}

export const ChangeRoleBody = v.object({
  name: v.optional(nameText),
  permissions: v.optional(permissions),
}) satisfies v.GenericSchema<unknown, ChangeRoleBody>;
export interface ChangeRoleBody {
  readonly name?: string | undefined;
  /** All that the role holds from then on. */
  readonly permissions?: readonly string[] | undefined;
}

export interface RoleView {
  readonly id: string;
  readonly name: string;
  /** Every organization, or cache, has it, and nobody changes it. */
  readonly builtin: boolean;
  /** Declared in the server's configuration. */
  readonly managed: boolean;
  readonly permissions: readonly string[];
}

export interface OrganizationRoleView extends RoleView {
  /** The organization's id; null for a built-in role. */
  readonly organization: string | null;
}

export interface CacheRoleView extends RoleView {
  /** The cache's id; null for a built-in role. */
  readonly cache: string | null;
}

export interface RoleListView<Role extends RoleView> {
  readonly roles: readonly Role[];
  readonly available_permissions: readonly PermissionView[];
}
