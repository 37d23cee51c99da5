import { afterAll, beforeAll, expect, test } from "vitest";
import type { StorePath } from "#core/nix/store-path.ts";
import type { FakeWorker } from "#test/support/fake-worker.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { addVictim, finish, snapshot, type Victim } from "./world.ts";

const ABSENT = `/nix/store/${"0".repeat(32)}-absent` as StorePath;

let bench: HubBench;
let victim: Victim;
let worker: FakeWorker;
let own: string;
beforeAll(async () => {
  bench = await withHub();
  victim = await addVictim(bench);
  worker = await bench.registered();
  await bench.addEvaluation();
  worker.send({ type: "request_job", kind: "evaluation", free: 1 });
  own = (await worker.next("assign_job")).attempt;
});
afterAll(() => bench[Symbol.asyncDispose]());

/** What is answered about the path, under that attempt, by each question there is; without the numbers of questions. */
async function answersAbout(path: StorePath, attempt: string): Promise<unknown[]> {
  const hashes = [path.slice("/nix/store/".length).slice(0, 32)];
  const answers: unknown[] = [];
  const keep = ({ query, request, ...rest }: { query?: number; request?: number }) => {
    answers.push(query, request, rest);
  };
  const asked = worker.received.length;
  worker.send({ type: "cache_query", query: 1, attempt, paths: [path], hashes });
  worker.send({ type: "query_derivations", query: 2, attempt, derivations: [{ drv_path: path, outputs: [path] }] });
  worker.send({ type: "nar_request", request: 3, attempt, path });
  await expect.poll(() => worker.received.length).toBe(asked + 3);
  const texts = worker.received.slice(asked).sort((a, b) => (a.type < b.type ? -1 : 1));
  for (const text of texts) keep(text as never);
  return answers;
}

test("what another organization has looks exactly like what does not exist", async () => {
  const absent = await answersAbout(ABSENT, own);
  expect(absent).toContainEqual(expect.objectContaining({ type: "derivation_status", known: [false] }));
  for (const path of victim.known.paths) expect(await answersAbout(path, own)).toEqual(absent);
});

test("an attempt of another organization is like one that nobody has, whatever is said about it", async () => {
  const before = await snapshot(bench, victim.organizationId);
  const unknown = await answersAbout(ABSENT, "01890000-0000-7000-8000-000000000000");
  for (const path of victim.known.paths) expect(await answersAbout(path, victim.build.attempt)).toEqual(unknown);

  const { attempt } = victim.build;
  worker.send({ type: "job_update", attempt, phase: "building" });
  worker.send({ type: "log_open", attempt, offset: 0, stream: worker.connection.openStream().id });
  worker.send({ type: "assign_job_response", attempt, accepted: false });
  const failure = { class: "permanent" as const, message: "no", missing: [] };
  const result = { kind: "build" as const, status: "failed" as const, outputs: [], failure, build_ms: 1 };
  worker.send({ type: "job_result", attempt, result });
  await worker.next("job_result_ack");
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect(await snapshot(bench, victim.organizationId)).toEqual(before);
  await finish(victim);
});
