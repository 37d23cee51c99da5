/** One line of the product, without the protection in it. */
export interface Mutation {
  readonly what: string;
  readonly file: string;
  /** Stands once in the file. */
  readonly from: string;
  readonly to: string;
}

/** Deliberate mistakes that seeds have to notice: docs/decisions/0060-simulation.md says which did. */
export const MUTATIONS: readonly Mutation[] = [
  {
    what: "a result is recorded before it is acknowledged",
    file: "runtime/node/hub/worker-jobs.ts",
    from: "await recordOrFail(this.#deps, attempt",
    to: "void recordOrFail(this.#deps, attempt",
  },
  {
    what: "a result is sent until it is acknowledged",
    file: "worker/session/attempt.ts",
    from: 'await session.ask({ type: "job_result"',
    to: 'await session.send({ type: "job_result"',
  },
  {
    what: "a log is stored before its result is recorded",
    file: "runtime/node/hub/worker-jobs.ts",
    from: "await this.#logs.ended(attempt);",
    to: "void this.#logs.ended(attempt);",
  },
  {
    what: "what a worker did not name is freed at once",
    file: "core/services/transitions/leases.ts",
    from: "const isLost = ({ id }: OpenAttempt) => !named.includes(id);",
    to: "const isLost = (_: OpenAttempt) => false;",
  },
  {
    what: "a worker keeps what it named on its new session",
    file: "core/services/transitions/leases.ts",
    from: "const isLost = ({ id }: OpenAttempt) => !named.includes(id);",
    to: "const isLost = (_: OpenAttempt) => true;",
  },
  {
    what: "leases last while their worker is heard",
    file: "runtime/node/hub/session-leases.ts",
    from: "await prolongLeases(this.#deps, this.worker);",
    to: "void prolongLeases;",
  },
  {
    what: "no lease ends before a server could hear its worker",
    file: "runtime/node/hub/hub.ts",
    from: "if (await beatServer(this.#deps)) await expireLeases(this.#deps);",
    to: "await beatServer(this.#deps); await expireLeases(this.#deps);",
  },
  {
    what: "a build begins when everything it needs is there",
    file: "core/db/graph.ts",
    from: "when b.status = 0 and b.pending_dependencies + delta.change = 0 then 1",
    to: "when b.status = 0 then 1",
  },
  {
    what: "a success counts only with its outputs",
    file: "core/services/transitions/build-end.ts",
    from: "absenceOf(absent.get(id));",
    to: "null;",
  },
  {
    what: "what waits for a failed build fails with it",
    file: "core/services/transitions/build-end.ts",
    from: "const failedAbove = lost.length > 0 ? await failDependents(trx, lost) : [];",
    to: "const failedAbove: string[] = [];",
  },
  {
    what: "an abort spares what other evaluations need",
    file: "core/db/evaluation-end.ts",
    from: "return ids.filter((id) => !keep.has(id));",
    to: "return keep.size < 0 ? [] : ids;",
  },
  {
    what: "a build goes where its features are",
    file: "core/domain/scheduling/eligibility.ts",
    from: "if (!need.requiredFeatures.every((feature) => group.systemFeatures.includes(feature)))",
    to: "if (need.requiredFeatures.length > 9)",
  },
  {
    what: "evaluations say what they wait for",
    file: "core/services/transitions/waiting.ts",
    from: "if (changes.length === 0) return released;",
    to: "if (changes.length < 1_000) return released;",
  },
  {
    what: "an output that vanished is built again",
    file: "core/services/transitions/leases.ts",
    from: "await loseSuspects(deps);",
    to: "void loseSuspects;",
  },
];
