import type { RetentionSettings } from "../domain/retention.ts";
import type { BlobStore } from "../ports/blob-store.ts";
import type { ServiceDeps } from "./deps.ts";

export interface RetentionDeps extends Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "log"> {
  readonly blobs: BlobStore;
  readonly retention: RetentionSettings;
}
