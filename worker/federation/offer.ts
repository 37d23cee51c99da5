import type { Clock } from "#core/lib/clock.ts";
import { WORKER_GROUPS_MAX, WORKER_ORGANIZATIONS_MAX, WORKER_SIGNING_KEYS_MAX } from "#core/protocol/limits.ts";
import type { BuildGroup, EvaluationGroup } from "#core/protocol/worker-messages.ts";
import type { WorkerFacts } from "../session/introduction.ts";
import { GroupNumbers } from "./group-numbers.ts";
import type { Places } from "./places.ts";
import { RELAY_BUILDS_MAX } from "./relay-limits.ts";
import type { RelayedWorker } from "./relayed-worker.ts";

/** A place behind one number of the relay. */
export interface Member {
  readonly worker: RelayedWorker;
  /** The number that the worker itself has given the group. */
  readonly group: number;
  readonly places: Places;
}

/** What the relay says it can do, and who behind it does what. */
export interface Offer {
  readonly facts: WorkerFacts;
  /** By the number of the group. */
  readonly builds: readonly (readonly Member[])[];
  readonly evaluations: readonly (readonly Member[])[];
}

interface Gathered<Group> {
  readonly group: Group;
  readonly members: Member[];
}

const NO_BUILDS: BuildGroup = { architectures: [], system_features: [], max_concurrent_builds: 0 };
const NO_EVALUATIONS: EvaluationGroup = { fetch: false, eval: false, max_concurrent_evaluations: 0 };

/** Puts the workers behind a relay into groups: one for each kind of machine, never a union of several. */
export class Offers {
  readonly #builds: GroupNumbers;
  readonly #evaluations: GroupNumbers;

  constructor(clock: Clock) {
    this.#builds = new GroupNumbers(clock, WORKER_GROUPS_MAX);
    this.#evaluations = new GroupNumbers(clock, WORKER_GROUPS_MAX);
  }

  of(
    workers: readonly RelayedWorker[],
    able: { readonly build: boolean; readonly fetch: boolean; readonly eval: boolean },
  ): Offer {
    const builds = able.build ? gatherBuilds(workers) : new Map<string, Gathered<BuildGroup>>();
    const evaluations = gatherEvaluations(workers, able);
    const buildSlots = slotsOf(this.#builds, builds);
    const evaluationSlots = slotsOf(this.#evaluations, evaluations);
    allot(buildSlots.flatMap((slot) => slot?.members ?? []));
    const evaluationGroups = evaluationSlots.map((slot) =>
      slot ? { ...slot.group, max_concurrent_evaluations: placesOf(slot.members) } : NO_EVALUATIONS,
    );
    const sum = (count: (worker: RelayedWorker) => number) => workers.reduce((all, one) => all + count(one), 0);
    const facts: WorkerFacts = {
      architectures: [],
      systemFeatures: [],
      maxConcurrentBuilds: 0,
      maxConcurrentEvaluations: evaluationGroups.reduce((all, group) => all + group.max_concurrent_evaluations, 0),
      cpuCount: sum(({ description }) => description.cpu_count),
      ramTotalMb: sum(({ description }) => description.ram_total_mb),
      behind: {
        groups: buildSlots.map((slot) =>
          slot ? { ...slot.group, max_concurrent_builds: placesOf(slot.members) } : NO_BUILDS,
        ),
        evaluationGroups,
        signingKeys: [...new Set(workers.flatMap(({ signingKeys }) => signingKeys))]
          .sort()
          .slice(0, WORKER_SIGNING_KEYS_MAX),
      },
    };
    const members = (slot: Gathered<unknown> | null) => slot?.members ?? [];
    return { facts, builds: buildSlots.map(members), evaluations: evaluationSlots.map(members) };
  }
}

function gatherBuilds(workers: readonly RelayedWorker[]): Map<string, Gathered<BuildGroup>> {
  const gathered = new Map<string, Gathered<BuildGroup>>();
  for (const worker of workers) {
    for (const [index, { group, places }] of worker.builds.entries()) {
      const kind = {
        architectures: [...new Set(group.architectures)].sort(),
        system_features: [...new Set(group.system_features)].sort(),
        organizations: (group.organizations ?? []).slice(0, WORKER_ORGANIZATIONS_MAX),
      };
      if (places.max === 0 || kind.organizations.length === 0) continue;
      add(gathered, { ...kind, max_concurrent_builds: 0 }, { worker, group: index, places });
    }
  }
  return gathered;
}

function gatherEvaluations(
  workers: readonly RelayedWorker[],
  able: { readonly fetch: boolean; readonly eval: boolean },
): Map<string, Gathered<EvaluationGroup>> {
  const gathered = new Map<string, Gathered<EvaluationGroup>>();
  for (const worker of workers) {
    for (const [index, { group, places }] of worker.evaluations.entries()) {
      const kind = {
        fetch: group.fetch && able.fetch,
        eval: group.eval && able.eval,
        organizations: (group.organizations ?? []).slice(0, WORKER_ORGANIZATIONS_MAX),
      };
      if (places.max === 0 || kind.organizations.length === 0 || !(kind.fetch || kind.eval)) continue;
      add(gathered, { ...kind, max_concurrent_evaluations: 0 }, { worker, group: index, places });
    }
  }
  return gathered;
}

function add<Group>(gathered: Map<string, Gathered<Group>>, group: Group, member: Member): void {
  const key = JSON.stringify(group);
  const known = gathered.get(key) ?? { group, members: [] };
  gathered.set(key, known);
  known.members.push(member);
}

function slotsOf<Group>(numbers: GroupNumbers, gathered: Map<string, Gathered<Group>>): (Gathered<Group> | null)[] {
  return numbers.assign([...gathered.keys()]).map((key) => (key === null ? null : (gathered.get(key) ?? null)));
}

/** The first come have their places whole. */
function allot(members: readonly Member[]): void {
  let left = RELAY_BUILDS_MAX;
  for (const { places } of members) {
    places.allot(left);
    left -= places.allotted;
  }
}

function placesOf(members: readonly Member[]): number {
  return members.reduce((sum, { places }) => sum + places.allotted, 0);
}
