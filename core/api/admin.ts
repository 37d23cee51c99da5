import * as v from "valibot";

/** `POST /admin/draining`. */
export const DrainingBody = v.object({ enabled: v.boolean("must be true or false") });
export type DrainingBody = v.InferOutput<typeof DrainingBody>;
