import { afterAll, beforeAll, expect, test } from "vitest";
import { BuildStatus } from "#core/domain/states.ts";
import { type HubBench, withHub } from "#test/support/hub.ts";
import { attack, type Campaign } from "./campaign.ts";
import { addVictim, finish, snapshot, type Victim } from "./world.ts";

/** More of them: `npm run fuzz -- --seeds N`. */
const SEEDS = Number(process.env.FUZZ_SEEDS ?? 40);
const FIRST = Number(process.env.FUZZ_FIRST ?? 1);

let bench: HubBench;
let victim: Victim;
beforeAll(async () => {
  bench = await withHub();
  victim = await addVictim(bench);
});
afterAll(() => bench[Symbol.asyncDispose]());

test("hostile workers of one organization see and change nothing of another's, and its honest worker still builds", {
  timeout: 600_000,
}, async () => {
  const before = await snapshot(bench, victim.organizationId);
  const done: Campaign[] = [];
  for (let seed = FIRST; seed < FIRST + SEEDS; seed++) {
    const t0 = performance.now();
    done.push(await attack(bench, victim, seed));
    if (process.env.FUZZ_TRACE) console.log(seed, done.at(-1), (performance.now() - t0).toFixed(0));
  }
  await expect.poll(() => bench.hub.connections, { timeout: 20_000 }).toBe(1);

  expect(await snapshot(bench, victim.organizationId)).toEqual(before);
  await finish(victim);
  const { status } = await bench.db
    .selectFrom("build")
    .select("status")
    .where("id", "=", victim.build.id)
    .executeTakeFirstOrThrow();
  expect(status).toBe(BuildStatus.Completed);
  if (process.env.FUZZ_TRACE)
    for (const l of bench.log.lines)
      if (l.level === "error" || /task of/.test(l.message)) console.log(l.message, l.fields);
});
