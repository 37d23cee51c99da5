import { systemClock } from "#core/lib/clock.ts";
import { socketPair } from "#core/protocol/memory-socket.ts";
import { Random } from "#test/sim/random.ts";
import type { HubBench } from "#test/support/hub.ts";
import { HostileWorker } from "./hostile-worker.ts";
import type { Victim } from "./world.ts";

const SESSIONS_MAX = 3;
const STEPS_MAX = 120;

export interface Campaign {
  /** Types of the messages that the attackers were sent. */
  readonly kinds: ReadonlySet<string>;
}

/** Sessions of hostile workers of one organization, all of one seed. Throws when they saw what they must not. */
export async function attack(bench: HubBench, victim: Victim, seed: number): Promise<Campaign> {
  const random = new Random(seed);
  // One of them bears the id of the victim's worker: any organization may register any id.
  const workerId = random.chance(0.3) ? victim.worker.workerId : uuid(random);
  const sessions = random.between(1, SESSIONS_MAX);
  const received: string[] = [];
  await bench.addRegistration(workerId, bench.organizationId, "the attacker's token").catch(() => {});
  for (let i = 0; i < sessions; i++) {
    await bench.addEvaluation();
    for (let build = random.below(3); build >= 0; build--) await bench.addBuild(`own-${build}`);
    const [mine, theirs] = socketPair(systemClock);
    const worker = new HostileWorker(mine, {
      random: random.fork(),
      workerId,
      organizationId: bench.organizationId,
      token: "the attacker's token",
      foreign: victim.known,
    });
    bench.hub.accept(theirs);
    await worker.run(random.between(1, STEPS_MAX));
    received.push(...worker.received);
  }
  for (const text of received) {
    const leaked = victim.secrets.find((secret) => text.includes(secret));
    if (leaked !== undefined) throw new Error(`seed ${seed}: «${leaked}» was sent: ${text.slice(0, 500)}`);
  }
  if (victim.worker.closed !== null)
    throw new Error(`seed ${seed}: the victim's session ended: ${victim.worker.closed}`);
  return { kinds: new Set(received.flatMap((text) => /^\{"type":"(\w+)"/.exec(text)?.[1] ?? [])) };
}

function uuid(random: Random): string {
  const hex = Array.from({ length: 32 }, () => random.below(16).toString(16)).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20)}`;
}
