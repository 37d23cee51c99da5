import * as v from "valibot";
import { descriptionText, nameText, wholeNumber } from "./text.ts";

const PRIORITY_MAX = 1_000_000;
/** One exabyte. */
const STORAGE_GB_MAX = 1_000_000_000;
/** cache.nixos.org has 40; clients ask the smaller number first. */
const PRIORITY_DEFAULT = 40;

export const CreateCacheBody = v.object({
  name: nameText,
  display_name: nameText,
  description: v.optional(descriptionText, ""),
  priority: v.optional(wholeNumber(0, PRIORITY_MAX), PRIORITY_DEFAULT),
  public: v.optional(v.boolean(), false),
  local_priority: v.nullish(wholeNumber(0, PRIORITY_MAX)),
  max_storage_gb: v.optional(wholeNumber(0, STORAGE_GB_MAX), 0),
  pull_through: v.optional(v.boolean(), false),
}) satisfies v.GenericSchema<unknown, CreateCacheBody>;
export interface CreateCacheBody {
  readonly name: string;
  readonly display_name: string;
  readonly description: string;
  readonly priority: number;
  readonly public: boolean;
  /** The priority that clients with a local address are told; 0 or none turns it off. */
  readonly local_priority?: number | null | undefined;
  /** 0 sets no limit. */
  readonly max_storage_gb: number;
  /** Keeps what clients get through it from its upstreams. */
  readonly pull_through: boolean;
}

export const ChangeCacheBody = v.object({
  name: v.optional(nameText),
  display_name: v.optional(nameText),
  description: v.optional(descriptionText),
  priority: v.optional(wholeNumber(0, PRIORITY_MAX)),
  local_priority: v.nullish(wholeNumber(0, PRIORITY_MAX)),
  max_storage_gb: v.optional(wholeNumber(0, STORAGE_GB_MAX)),
  pull_through: v.optional(v.boolean()),
}) satisfies v.GenericSchema<unknown, ChangeCacheBody>;
export interface ChangeCacheBody {
  readonly name?: string | undefined;
  readonly display_name?: string | undefined;
  readonly description?: string | undefined;
  readonly priority?: number | undefined;
  readonly local_priority?: number | null | undefined;
  readonly max_storage_gb?: number | undefined;
  readonly pull_through?: boolean | undefined;
}

export interface CacheView {
  readonly id: string;
  readonly name: string;
  readonly display_name: string;
  readonly description: string;
  readonly active: boolean;
  readonly priority: number;
  readonly local_priority: number | null;
  readonly max_storage_gb: number;
  readonly pull_through: boolean;
  readonly public_key: string;
  readonly public: boolean;
  readonly created_by: string | null;
  readonly created_at: string;
  readonly managed: boolean;
  readonly can_edit: boolean;
}
