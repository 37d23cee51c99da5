import type { GitRemote } from "../ports/git-remote.ts";
import type { ServiceDeps } from "./deps.ts";
import type { EvaluationControl } from "./evaluations-control.ts";

export interface ProjectSettings {
  /** What a project keeps at first, and the most it may keep; 0 sets no upper bound. */
  readonly keepEvaluations: number;
  /** Whether repositories on the server's own disks are taken. */
  readonly allowLocalSources: boolean;
}

/** What projects and evaluations need beside what every service has. */
export interface ProjectDeps extends Pick<ServiceDeps, "db" | "clock" | "random" | "notifier" | "log"> {
  readonly git: GitRemote;
  readonly control: EvaluationControl;
  readonly projects: ProjectSettings;
}
