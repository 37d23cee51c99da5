import { expect, test } from "vitest";
import type { EvaluationJob } from "#core/protocol/server-messages.ts";
import type { EvaluationJobEnvironment } from "./evaluation-job.ts";
import { runEvaluation } from "./evaluation-job.ts";
import type { AttemptLink } from "./link.ts";

const ID = "01890000-0000-7000-8000-000000000001";
const JOB: EvaluationJob = {
  kind: "evaluation",
  evaluation: ID,
  organization: ID,
  repository: "https://example.org/site",
  commit: "0".repeat(40),
  wildcard: "packages.*",
  part: "whole",
  trusted: false,
  overrides: [],
  source: null,
  ssh_key: "a private key",
  timeout_ms: 1_000,
  attributes_max: 1,
  derivations_max: 1,
  messages_max: 1,
};

test("what a stranger proposed is refused before anything of the worker is touched", async () => {
  const untouchable = new Proxy({}, { get: (_, name) => expect.unreachable(`it asked for ${String(name)}`) });
  const result = await runEvaluation(JOB, untouchable as AttemptLink, untouchable as EvaluationJobEnvironment);

  expect(result).toMatchObject({ status: "failed", failure: { class: "permanent" } });
});
