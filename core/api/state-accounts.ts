import * as v from "valibot";
import { isUuid, isUuidV4 } from "../lib/ids.ts";
import {
  creator,
  descriptionWords,
  displayWords,
  exact,
  flag,
  hasSecret,
  listOf,
  nameWords,
  neededSecretPath,
  oneOf,
  optional,
  secretPath,
  wholeNumberOf,
  words,
} from "./state-fields.ts";

/** Whom something belongs to and what they are there. */
export const memberEntry = exact({ user: nameWords, role: nameWords });

const permissionWords = v.pipe(
  v.array(words(64), "must be a list"),
  v.minLength(1, "is empty: name at least one permission"),
  v.maxLength(64, "names more permissions than there are"),
);
const lowerUuid = v.pipe(
  v.string("must be a UUID"),
  v.transform((id) => id.toLowerCase()),
  v.check(isUuid, "must be a UUID"),
);

export const userEntry = exact({
  username: optional(nameWords),
  name: displayWords,
  /** Empty for somebody whose identity provider tells none. */
  email: v.pipe(
    v.string("must be text"),
    v.maxLength(254, "is longer than the 254 characters that are allowed"),
    v.regex(/^(?:[^\s@\p{Cc}]+@[^\s@\p{Cc}]+)?$/u, "must be an address of the form name@host"),
  ),
  /** Holds the hash of the password; without one nobody signs in with a password. */
  password_file: secretPath,
  has_password_file: hasSecret,
  email_verified: flag(true),
  superuser: flag(false),
});

export const organizationEntry = exact({
  name: optional(nameWords),
  display_name: displayWords,
  description: descriptionWords,
  id: optional(lowerUuid),
  private_key_file: secretPath,
  public: flag(false),
  hide_build_requests: flag(false),
  created_by: creator,
  members: listOf(memberEntry),
});

export const roleEntry = exact({
  name: optional(nameWords),
  organization: nameWords,
  permissions: permissionWords,
  oidc_group: listOf(words(1_000)),
  scim_group: listOf(words(1_000)),
});

export const apiKeyEntry = exact({
  name: optional(nameWords),
  owned_by: nameWords,
  key_file: neededSecretPath,
  permissions: permissionWords,
  organization: optional(nameWords),
  cache: optional(nameWords),
  allowed_ips: listOf(words(64)),
  expires_at: optional(
    v.pipe(
      v.string("must be a time such as 2030-01-31T00:00:00Z"),
      v.isoTimestamp("must be a time such as 2030-01-31T00:00:00Z"),
    ),
  ),
});

export const workerEntry = exact({
  worker_id: v.pipe(
    v.string("must be a UUID of version 4"),
    v.transform((id) => id.toLowerCase()),
    v.check(isUuidV4, "must be a UUID of version 4, as in the worker's file `worker-id`"),
  ),
  display_name: displayWords,
  url: optional(words(2_000)),
  organizations: listOf(nameWords),
  token_file: neededSecretPath,
  created_by: creator,
  base_worker: flag(false),
  authorize_against: optional(lowerUuid),
  enabled: flag(true),
  enable_fetch: flag(true),
  enable_eval: flag(true),
  enable_build: flag(true),
});

export const integrationEntry = exact({
  name: optional(nameWords),
  organization: nameWords,
  created_by: creator,
  display_name: displayWords,
  kind: oneOf(["inbound", "outbound"]),
  forge_type: oneOf(["gitea", "forgejo", "gitlab", "github"]),
  secret_file: secretPath,
  has_secret_file: hasSecret,
  access_token_file: secretPath,
  has_access_token_file: hasSecret,
  endpoint_url: optional(words(2_000)),
  account_login: optional(words(255)),
  installation_id: optional(wholeNumberOf(1, Number.MAX_SAFE_INTEGER)),
});
