import * as v from "valibot";
import { nameText, text } from "./text.ts";

const URL_LENGTH_MAX = 2_000;
const KEYS_LENGTH_MAX = 4_000;
const API_KEY_LENGTH_MAX = 1_000;
const MODES = ["ReadWrite", "ReadOnly", "WriteOnly"] as const;
export type UpstreamMode = (typeof MODES)[number];

export const AddUpstreamBody = v.variant("type", [
  v.object({
    type: v.literal("internal"),
    cache_name: nameText,
    display_name: v.optional(nameText),
    mode: v.optional(v.picklist(MODES), "ReadWrite"),
  }),
  v.object({
    type: v.literal("gradient_proto"),
    url: text(URL_LENGTH_MAX),
    remote_cache: nameText,
    display_name: nameText,
    public_key: v.optional(text(KEYS_LENGTH_MAX)),
    api_key: v.optional(text(API_KEY_LENGTH_MAX)),
    mode: v.optional(v.picklist(MODES), "ReadOnly"),
  }),
  v.object({
    type: v.literal("http"),
    display_name: nameText,
    url: text(URL_LENGTH_MAX),
    public_key: text(KEYS_LENGTH_MAX),
    mode: v.optional(v.picklist(MODES), "ReadOnly"),
  }),
]) satisfies v.GenericSchema<unknown, AddUpstreamBody>;
export type AddUpstreamBody = AddInternalUpstreamBody | AddGradientUpstreamBody | AddHttpUpstreamBody;

/** Another cache of this server. */
export interface AddInternalUpstreamBody {
  readonly type: "internal";
  readonly cache_name: string;
  readonly display_name?: string | undefined;
  readonly mode: UpstreamMode;
}

/** A cache of another Gradient. */
export interface AddGradientUpstreamBody {
  readonly type: "gradient_proto";
  /** Of the server. */
  readonly url: string;
  readonly remote_cache: string;
  readonly display_name: string;
  /** Without it the other server is asked for its key, once. */
  readonly public_key?: string | undefined;
  /** For a cache that is not public. */
  readonly api_key?: string | undefined;
  readonly mode: UpstreamMode;
}

export interface AddHttpUpstreamBody {
  readonly type: "http";
  readonly display_name: string;
  readonly url: string;
  /** One or more of `name:base64`, with spaces in between. */
  readonly public_key: string;
  readonly mode: UpstreamMode;
}

export const ChangeUpstreamBody = v.object({
  display_name: v.optional(nameText),
  mode: v.optional(v.picklist(MODES)),
  url: v.optional(text(URL_LENGTH_MAX)),
  public_key: v.optional(text(KEYS_LENGTH_MAX)),
  api_key: v.nullish(text(API_KEY_LENGTH_MAX)),
}) satisfies v.GenericSchema<unknown, ChangeUpstreamBody>;
export interface ChangeUpstreamBody {
  readonly display_name?: string | undefined;
  readonly mode?: UpstreamMode | undefined;
  /** Of plain HTTP caches only: an API key goes to no other server than the one it was given for. */
  readonly url?: string | undefined;
  readonly public_key?: string | undefined;
  /** Null takes it away. */
  readonly api_key?: string | null | undefined;
}

export interface UpstreamView {
  readonly id: string;
  readonly display_name: string;
  readonly mode: UpstreamMode;
  readonly upstream_cache_id: string | null;
  readonly url: string | null;
  readonly public_key: string | null;
  readonly kind: "internal" | "http" | "gradientproto";
  readonly remote_cache: string | null;
}
