import * as v from "valibot";
import { Count, Sha256Hex, Size, StorePathField, StreamId, text, Uuid } from "./fields.ts";

/**
 * The server has lost the NAR of a path, and asks whoever works for the organization whether it has it still. No lease
 * goes with it: what counts is that the NAR is the very one.
 */
export const NarWanted = v.object({
  type: v.literal("nar_wanted"),
  want: Count,
  organization: Uuid,
  path: StorePathField,
  nar_hash: Sha256Hex,
  nar_size: Size,
});
export type NarWanted = v.InferOutput<typeof NarWanted>;

/** It is here, and comes. A stream that its sender gives up brought another NAR than the store had recorded. */
export const NarReturn = v.object({
  type: v.literal("nar_return"),
  want: Count,
  compression: v.picklist(["none", "zstd"]),
  stream: StreamId,
});
export type NarReturn = v.InferOutput<typeof NarReturn>;

export const NarAbsent = v.object({ type: v.literal("nar_absent"), want: Count, reason: text(1024) });
export type NarAbsent = v.InferOutput<typeof NarAbsent>;
