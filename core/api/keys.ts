import * as v from "valibot";
import { nameText, text, wholeNumber } from "./text.ts";

const ALLOWED_IPS_MAX = 64;
const EXPIRY_DAYS_MAX = 3_650;

const permissionList = v.pipe(
  v.array(text(64)),
  v.minLength(1, "must name at least one permission; GET /user/keys/permissions lists them"),
  v.maxLength(64, "names more permissions than there are"),
);
const allowedIps = v.pipe(
  v.array(text(64)),
  v.maxLength(ALLOWED_IPS_MAX, `has more than the ${ALLOWED_IPS_MAX} entries that are allowed`),
);

export const CreateKeyBody = v.object({
  name: nameText,
  permissions: permissionList,
  expires_in_days: v.nullish(wholeNumber(1, EXPIRY_DAYS_MAX)),
  organization: v.nullish(nameText),
  cache: v.nullish(nameText),
  allowed_ips: v.optional(allowedIps, []),
}) satisfies v.GenericSchema<unknown, CreateKeyBody>;
export interface CreateKeyBody {
  readonly name: string;
  readonly permissions: readonly string[];
  readonly expires_in_days?: number | null | undefined;
  /** The name of the one organization, or the one cache, that the key is for. */
  readonly organization?: string | null | undefined;
  readonly cache?: string | null | undefined;
  readonly allowed_ips: readonly string[];
}

export const ChangeKeyBody = v.object({
  name: v.optional(nameText),
  permissions: v.optional(permissionList),
  expires_in_days: v.nullish(wholeNumber(1, EXPIRY_DAYS_MAX)),
  organization: v.nullish(nameText),
  allowed_ips: v.optional(allowedIps),
}) satisfies v.GenericSchema<unknown, ChangeKeyBody>;
export interface ChangeKeyBody {
  readonly name?: string | undefined;
  readonly permissions?: readonly string[] | undefined;
  /** From now on; null lets the key be valid for good. */
  readonly expires_in_days?: number | null | undefined;
  /** Null takes the pin away. */
  readonly organization?: string | null | undefined;
  /** Empty lets the key be used from everywhere. */
  readonly allowed_ips?: readonly string[] | undefined;
}

export const DeleteKeyBody = v.object({ name: nameText }) satisfies v.GenericSchema<unknown, { readonly name: string }>;

export interface KeyView {
  readonly id: string;
  readonly name: string;
  readonly managed: boolean;
  /** Cache permissions when `cache` is set, organization permissions otherwise. */
  readonly permissions: readonly string[];
  readonly organization: string | null;
  readonly cache: string | null;
  readonly created_at: string;
  readonly last_used_at: string | null;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
  readonly allowed_ips: readonly string[];
}

export interface PermissionView {
  readonly id: string;
  readonly mutating: boolean;
}

/** `GET /user/keys/permissions`. */
export interface KeyPermissionsView {
  readonly available_permissions: readonly PermissionView[];
  readonly availableCache: readonly PermissionView[];
}
