import * as v from "valibot";
import type { WorkerLiveView } from "./workers.ts";

/** `POST /admin/draining`. */
export const DrainingBody = v.object({ enabled: v.boolean("must be true or false") });
export type DrainingBody = v.InferOutput<typeof DrainingBody>;

/** `POST /admin/draining`. */
export interface DrainingView {
  readonly draining: boolean;
}

/** One of `GET /admin/workers`: a worker that is connected to any server of the instance. */
export interface ConnectedWorkerView extends WorkerLiveView {
  readonly worker_id: string;
  readonly connected_at: string;
  /** Ids of the organizations that it works for; nobody but a superuser sees them. */
  readonly organizations: readonly string[] | null;
}
