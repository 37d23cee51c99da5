import * as v from "valibot";
import { nameText, text } from "./text.ts";

const URL_LENGTH_MAX = 2_000;
const KEYS_LENGTH_MAX = 4_000;
const MODES = ["ReadWrite", "ReadOnly", "WriteOnly"] as const;
export type UpstreamMode = (typeof MODES)[number];

/** Other types are named by clients of the original; they are refused with words, not as a wrong shape. */
export const AddUpstreamBody: v.GenericSchema<unknown, AddUpstreamBody> = v.variant("type", [
  v.object({ type: v.literal("internal") }),
  v.object({ type: v.literal("gradient_proto") }),
  v.object({
    type: v.literal("http"),
    display_name: nameText,
    url: text(URL_LENGTH_MAX),
    public_key: text(KEYS_LENGTH_MAX),
    mode: v.optional(v.picklist(MODES), "ReadOnly"),
  }),
]);
export type AddUpstreamBody = { readonly type: "internal" | "gradient_proto" } | AddHttpUpstreamBody;
export interface AddHttpUpstreamBody {
  readonly type: "http";
  readonly display_name: string;
  readonly url: string;
  /** One or more of `name:base64`, with spaces in between. */
  readonly public_key: string;
  readonly mode: UpstreamMode;
}

export const ChangeUpstreamBody: v.GenericSchema<unknown, ChangeUpstreamBody> = v.object({
  display_name: v.optional(nameText),
  mode: v.optional(v.picklist(MODES)),
  url: v.optional(text(URL_LENGTH_MAX)),
  public_key: v.optional(text(KEYS_LENGTH_MAX)),
});
export interface ChangeUpstreamBody {
  readonly display_name?: string | undefined;
  readonly mode?: UpstreamMode | undefined;
  readonly url?: string | undefined;
  readonly public_key?: string | undefined;
}

export interface UpstreamView {
  readonly id: string;
  readonly display_name: string;
  readonly mode: UpstreamMode;
  readonly upstream_cache_id: string | null;
  readonly url: string | null;
  readonly public_key: string | null;
  readonly kind: "http";
  readonly remote_cache: string | null;
}
