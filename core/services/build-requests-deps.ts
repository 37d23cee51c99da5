import type { ProjectDeps } from "./projects-deps.ts";
import type { SourceStoreDeps } from "./source-store.ts";

export interface BuildRequestDeps extends ProjectDeps, SourceStoreDeps {
  /** The largest source, as a NAR (`GRADIENT_MAX_SOURCE_UPLOAD_SIZE`). */
  readonly sourceBytesMax: number;
}
