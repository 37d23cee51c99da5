import { buildLimits } from "#core/domain/build-limits.ts";
import { assert } from "#core/lib/assert.ts";
import { parseStorePathBaseName, type StorePath } from "#core/nix/store-path.ts";
import type { AssignedBuild, AssignedEvaluation } from "#core/services/transitions/assign.ts";
import type { HubDeps } from "./deps.ts";
import { evaluationJob } from "./evaluation-assignment.ts";
import { type LeasedAttempt, NO_OUTPUTS, outputsOf } from "./leased-attempts.ts";
import type { WorkerConnection } from "./session.ts";

const SENDING_MAX = 32;

/** Sends what was assigned, and says what the worker may do under each lease. */
export class AssignmentSender {
  readonly #deps: HubDeps;
  readonly #connection: WorkerConnection;
  readonly #onRoom: () => void;
  #sending = 0;

  /** `onRoom` is called when there is room again. */
  constructor(deps: HubDeps, connection: WorkerConnection, onRoom: () => void) {
    this.#deps = deps;
    this.#connection = connection;
    this.#onRoom = onRoom;
  }

  /** How many builds may be sent now: derivations that pile up on a slow line would use up the worker's streams. */
  get room(): number {
    return Math.max(0, SENDING_MAX - this.#sending);
  }

  sendBuild(build: AssignedBuild, group: number): LeasedAttempt {
    const stream = this.#connection.openStream();
    this.#connection.send({
      type: "assign_job",
      attempt: build.attemptId,
      group,
      job: {
        kind: "build",
        build: build.id,
        organization: build.organization_id,
        drv_path: fullPath(build.built_drv_path),
        drv: { stream: stream.id, size: build.aterm.length },
        inputs: build.inputs.map(fullPath),
        ...buildLimits(build, this.#deps.limits.build),
      },
    });
    this.#sending++;
    stream
      .sendWhole(build.aterm)
      .catch(() => {
        // The session has ended, or the worker has refused the job.
      })
      .finally(() => {
        const wasFull = this.room === 0;
        this.#sending--;
        if (wasFull) this.#onRoom();
      });
    return {
      id: build.attemptId,
      kind: "build",
      organizationId: build.organization_id,
      ...outputsOf(fullPath(build.built_drv_path), build.aterm),
    };
  }

  sendEvaluation(evaluation: AssignedEvaluation, group: number): LeasedAttempt {
    const { attemptId, organization_id } = evaluation;
    evaluationJob(this.#deps, evaluation).then(
      (job) => {
        if (!this.#connection.closed) this.#connection.send({ type: "assign_job", attempt: attemptId, group, job });
      },
      (error: unknown) => {
        this.#deps.log.error("an evaluation could not be sent to its worker", { attempt: attemptId, error });
        // On its next session the worker does not name the attempt, which is then given out again.
        this.#connection.close(1011, "the server could not send a job");
      },
    );
    return { id: attemptId, kind: "evaluation", organizationId: organization_id, ...NO_OUTPUTS };
  }
}

function fullPath(baseName: string): StorePath {
  const path = parseStorePathBaseName(baseName);
  assert(path, "rows hold store paths only");
  return path;
}
