import * as v from "valibot";
import { memberEntry } from "./state-accounts.ts";
import {
  creator,
  descriptionWords,
  displayWords,
  exact,
  flag,
  hasSecret,
  listOf,
  nameWords,
  oneOf,
  optional,
  secretPath,
  wholeNumberOf,
  words,
} from "./state-fields.ts";

const PRIORITY_MAX = 1_000_000;
const STORAGE_GB_MAX = 1_000_000_000;
const MODES = ["ReadWrite", "ReadOnly", "WriteOnly"] as const;
const UPSTREAMS_MAX = 16;

const mode = (whenAbsent: (typeof MODES)[number]) => v.nullish(oneOf(MODES), whenAbsent);
const upstreamUrl = words(2_000);
const publicKeys = words(4_000);

const upstreamEntry = v.variant(
  "type",
  [
    exact({ type: v.literal("internal"), cache_name: nameWords, display_name: displayWords, mode: mode("ReadWrite") }),
    exact({
      type: v.literal("external"),
      display_name: displayWords,
      url: upstreamUrl,
      public_key: publicKeys,
      mode: mode("ReadOnly"),
    }),
    exact({
      type: v.literal("gradient_proto"),
      display_name: displayWords,
      url: upstreamUrl,
      remote_cache: nameWords,
      public_key: publicKeys,
      api_key_file: secretPath,
      has_api_key_file: hasSecret,
      mode: mode("ReadOnly"),
    }),
  ],
  ({ expected }) =>
    expected === "Object" ? "must be an attribute set" : "must be one of internal, external, gradient_proto",
);
export type StateUpstream = v.InferOutput<typeof upstreamEntry>;

/** What a cache rests on that does not say it: nixpkgs as its own project builds it. */
const NIXPKGS_UPSTREAM: StateUpstream = {
  type: "external",
  display_name: "cache.nixos.org",
  url: "https://cache.nixos.org",
  public_key: "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=",
  mode: "ReadOnly",
};

export const cacheEntry = exact({
  name: optional(nameWords),
  display_name: displayWords,
  description: descriptionWords,
  active: flag(true),
  priority: v.nullish(wholeNumberOf(0, PRIORITY_MAX), 10),
  local_priority: optional(wholeNumberOf(0, PRIORITY_MAX)),
  max_storage_gb: v.nullish(wholeNumberOf(0, STORAGE_GB_MAX), 0),
  pull_through: flag(false),
  /** base64 of the secret key's 64 bytes, or `name:base64` as Nix writes it. */
  signing_key_file: secretPath,
  organizations: listOf(
    v.union(
      [nameWords, exact({ name: nameWords, mode: mode("ReadWrite") })],
      "must be the name of an organization, or its name and mode",
    ),
  ),
  upstreams: v.nullish(
    v.pipe(
      v.array(upstreamEntry, "must be a list"),
      v.maxLength(UPSTREAMS_MAX, `has more than the ${UPSTREAMS_MAX} entries that are allowed`),
    ),
    () => [NIXPKGS_UPSTREAM],
  ),
  public: flag(false),
  created_by: creator,
  roles: listOf(
    exact({
      name: nameWords,
      permissions: v.pipe(
        v.array(words(64), "must be a list"),
        v.minLength(1, "is empty: name at least one permission"),
        v.maxLength(64, "names more permissions than there are"),
      ),
    }),
  ),
  members: listOf(memberEntry),
});
