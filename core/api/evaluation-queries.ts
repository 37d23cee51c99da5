import * as v from "valibot";
import { isUuid } from "../lib/ids.ts";

/** A whole number in a query: at most nine digits, so that sums of two stay exact. */
export const queryNumber: v.GenericSchema<string, number> = v.pipe(
  v.string(),
  v.regex(/^\d{1,9}$/, "must be a whole number of at most nine digits, without a sign"),
  v.transform(Number),
);

export const queryId: v.GenericSchema<string> = v.pipe(
  v.string(),
  v.transform((text) => text.toLowerCase()),
  v.check(isUuid, "must be a UUID"),
);
