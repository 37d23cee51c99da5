import { afterAll, beforeAll, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { attack } from "./campaign.ts";
import { addVictim, finish, snapshot, type Victim } from "./world.ts";

/** More of them: `npm run fuzz -- --seeds N`. */
const SEEDS = Number(process.env.GRADIENT_FUZZ_SEEDS ?? 25);
const FIRST = Number(process.env.GRADIENT_FUZZ_FIRST ?? 1);

let bench: HubBench;
let victim: Victim;
beforeAll(async () => {
  bench = await withHub();
  victim = await addVictim(bench);
});
afterAll(() => bench[Symbol.asyncDispose]());

/** What a server answers once somebody got that far: a fuzzer that is sent away at the door shows nothing. */
const REACHED = ["assign_job", "cache_status", "derivation_status", "eval_batch_ack", "job_result_ack"];
const REFUSED = ["error", "nar_refused", "nar_unavailable", "query_error", "reject", "stream_stop"];

test("hostile workers of one organization see and change nothing of another's, and its honest worker still builds", {
  timeout: 300_000 + SEEDS * 2_000,
}, async () => {
  const before = await snapshot(bench, victim.organizationId);
  const kinds = new Set<string>();
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    for (const kind of (await attack(bench, victim, seed)).kinds) kinds.add(kind);
  }
  await expect.poll(() => bench.hub.connections, { timeout: 20_000 }).toBe(1);
  if (SEEDS >= 25) expect([...REACHED, ...REFUSED].filter((kind) => !kinds.has(kind))).toEqual([]);

  expect(await snapshot(bench, victim.organizationId)).toEqual(before);
  await finish(victim);
  const { status } = await bench.db
    .selectFrom("build")
    .select("status")
    .where("id", "=", victim.build.id)
    .executeTakeFirstOrThrow();
  expect(status).toBe(BuildStatus.Completed);
});
