import * as v from "valibot";
import { text } from "./text.ts";

const LABEL_LENGTH_MAX = 100;
const STYLES = ["flat", "flat-square"] as const;

/** API keys and session tokens, for images in pages of others. */
const token = text(4_096);

/** `GET /projects/{organization}/{project}/badge`. `eval`: an attribute as entry points show it. */
export const BadgeQuery = v.object({
  style: v.optional(v.picklist(STYLES, `must be one of ${STYLES.join(", ")}`), "flat"),
  label: v.optional(text(LABEL_LENGTH_MAX), "gradient"),
  eval: v.optional(text(4_096)),
  token: v.optional(token),
});
export type BadgeQuery = v.InferOutput<typeof BadgeQuery>;

/** `GET .../entry-point-downloads`; the token may also be one for this build's downloads. */
export const EntryPointDownloadQuery = v.object({
  eval: text(4_096),
  filename: text(4_096),
  token: v.optional(token),
});
