import * as v from "valibot";

/** `GET /admin/state`. */
export const StateQuery = v.object({ format: v.optional(v.picklist(["nix", "json"], "must be nix or json"), "nix") });
export type StateQuery = v.InferOutput<typeof StateQuery>;
