import type { Kysely, Transaction } from "kysely";
import { failureKind } from "../db/failure.ts";
import { listNarObjects, type NewNar } from "../db/nars.ts";
import { lockStoresForSigning } from "../db/organization-stores.ts";
import type { Database } from "../db/schema.ts";
import { DomainError } from "../errors.ts";
import { equalBytes, toHex } from "../lib/bytes.ts";
import { type AddOptions, GroupQueues, QueueFullError } from "../lib/group-queue.ts";
import { type StorePath, storePathBaseName } from "../nix/store-path.ts";
import {
  announceCommit,
  type CommitDeps,
  type CommitResult,
  type CommittedPath,
  commitCandidates,
  requireCommittable,
} from "./cache-commit.ts";
import { MissingReferenceError } from "./cache-promote.ts";
import { organizationTargets } from "./cache-targets.ts";
import { discardObject, type NarRecordDeps, type RecordedNars, recordNars, settleRecorded } from "./nar-record.ts";
import { endBuilds, lockReported, type ReportedResult } from "./transitions/build-end.ts";
import { type TransitionDeps, transition } from "./transitions/deps.ts";
import type { Upstreams } from "./upstreams.ts";

export interface DeliveryDeps extends TransitionDeps, CommitDeps, NarRecordDeps {
  readonly db: Kysely<Database>;
  readonly upstreams: Upstreams;
}

/** A path whose object is durable and proven (`storeObject`), and that no row names yet. */
export interface DeliveredPath {
  /** `source`: into the organization's internal store. `output`: into the caches it writes to. */
  readonly target: "source" | "output";
  readonly path: CommittedPath;
  readonly object: NewNar;
}

/** What a worker hands over at once: recorded as a whole or not at all. Its paths may refer to each other. */
export interface Delivery {
  readonly paths: readonly DeliveredPath[];
  /** The end of the build that made them. */
  readonly result: ReportedResult | null;
}

/** `refused`: the lease of the result's attempt no longer holds. Nothing of the delivery was recorded. */
export type DeliveryOutcome = "recorded" | "refused";

const GROUP_MAX = 64;
const WAITING_MAX = 10_000;
/** Trivial builds come some milliseconds apart, and a transaction for each would cost more than they do. */
const APART_MS = 20;
/** The same while nothing that can be done waits for them. */
const PATIENT_MS = 60;

/**
 * Records what workers deliver. What comes while a transaction is under way, or within 20 ms of its beginning, goes
 * together into the next one, which costs about what one delivery alone would; deliveries that nobody waits for wait up
 * to 60 ms for others. One queue an organization: a lock that one waits for holds up no other.
 */
export class Deliveries {
  readonly #deps: DeliveryDeps;
  readonly #queues: GroupQueues<Delivery, DeliveryOutcome>;

  constructor(deps: DeliveryDeps) {
    this.#deps = deps;
    this.#queues = new GroupQueues({
      handle: (organizationId, deliveries) => recordDeliveries(deps, organizationId, deliveries),
      concernsAll: (error) => failureKind(error) !== null,
      groupMax: GROUP_MAX,
      waitingMax: WAITING_MAX,
      apart: { ms: APART_MS, patientMs: PATIENT_MS, clock: deps.clock },
    });
  }

  /**
   * Resolves when all of it is committed, or refused. Throws `DomainError` when a path cannot be offered; nothing was
   * recorded then, and the caller may deliver the objects again or discard them. After any other error that is unknown.
   * `isPatient`: no place of a worker is free before it is recorded.
   */
  async add(organizationId: string, delivery: Delivery, options: AddOptions = {}): Promise<DeliveryOutcome> {
    try {
      return await this.#queues.add(organizationId, delivery, options);
    } catch (error) {
      if (error instanceof QueueFullError) {
        throw new DomainError("service_unavailable", "the server is behind: try again later", { cause: error });
      }
      if (!(error instanceof MissingReferenceError)) throw error;
      // Asked here, where nobody waits for it but this delivery.
      if (!(await this.#foundUpstream(organizationId, delivery))) throw error;
      return await this.#queues.add(organizationId, delivery);
    }
  }

  /** For objects that were not recorded, and will not be delivered again. */
  async discard(paths: readonly DeliveredPath[]): Promise<void> {
    for (const { object } of paths) await discardObject(this.#deps, object.object_key);
  }

  /** Whether an upstream of the organization's caches has a reference: it is recorded then, and counts. */
  async #foundUpstream(organizationId: string, { paths }: Delivery): Promise<boolean> {
    const { writable, readable } = await organizationTargets(this.#deps.db, organizationId);
    const references = paths.flatMap(({ path }) => path.references);
    let found = 0;
    // Each cache rests on its own upstreams: one that two caches share is recorded for both.
    for (const cacheId of new Set([...writable, ...readable])) {
      found += (await this.#deps.upstreams.find([cacheId], references)).found.size;
    }
    return found > 0;
  }
}

/** One transaction. What is locked comes in this order: attempts, builds, stores, NARs, paths, evaluations. */
async function recordDeliveries(
  deps: DeliveryDeps,
  organizationId: string,
  deliveries: readonly Delivery[],
): Promise<DeliveryOutcome[]> {
  const reported = deliveries.flatMap(({ result }) => result ?? []);
  const done = await transition(deps, async (trx, wakeups) => {
    const ending = reported.length > 0 ? await lockReported(trx, reported) : [];
    const open = new Set(ending.map(({ attempt_id }) => attempt_id));
    // Of two results of one attempt the first counts, as in two transactions. `delete` is true once.
    const outcomes = deliveries.map(({ result }): DeliveryOutcome => {
      return result && !open.delete(result.attemptId) ? "refused" : "recorded";
    });
    const pathsOf = (outcome: DeliveryOutcome) =>
      deliveries.flatMap(({ paths }, index) => (outcomes[index] === outcome ? paths : []));
    const paths = pathsOf("recorded");
    const offers = await offerPaths(trx, deps, organizationId, paths);
    const offered = new Set(paths.map(({ path }) => storePathBaseName(path.storePath)));
    await endBuilds(trx, wakeups, deps, { ending, reported, offered });
    const refused = pathsOf("refused").map(({ object }) => object.object_key);
    // One whose outcome nobody heard comes again, and is refused; its objects were recorded the first time.
    const kept = new Set(await listNarObjects(trx, refused));
    return { outcomes, offers, refused: refused.filter((key) => !kept.has(key)) };
  });
  const { nars, commits } = done.offers;
  await settleRecorded(deps, { healed: nars.healed, superfluousKeys: [...nars.superfluousKeys, ...done.refused] });
  for (const commit of commits) announceCommit(deps.notifier, commit);
  return done.outcomes;
}

interface OfferedPaths {
  readonly nars: Pick<RecordedNars, "superfluousKeys" | "healed">;
  readonly commits: readonly CommitResult[];
}

async function offerPaths(
  trx: Transaction<Database>,
  deps: CommitDeps,
  organizationId: string,
  delivered: readonly DeliveredPath[],
): Promise<OfferedPaths> {
  if (delivered.length === 0) return { nars: { superfluousKeys: [], healed: [] }, commits: [] };
  const stores = await lockStoresForSigning(trx, organizationId);
  const internal = stores.find(({ kind }) => kind === 1);
  if (!internal) throw new DomainError("not_found", "the organization is gone");
  const nars = await recordNars(
    trx,
    delivered.map(({ object }) => object),
  );
  const lenders = stores.filter(({ readable }) => readable);
  const commits: CommitResult[] = [];
  // Sources first: what is built from them may refer to them.
  for (const target of ["source", "output"] as const) {
    const paths = distinct(delivered.filter((path) => path.target === target).map(({ path }) => path));
    if (paths.length === 0) continue;
    requireCommittable(paths);
    const caches = target === "source" ? [internal] : stores.filter(({ writable }) => writable);
    // What nobody in the organization can read could never be the input of a build.
    if (!caches.some(({ readable }) => readable)) caches.push(internal);
    const candidates = paths.map((path) => ({
      ...path,
      narSize: nars.nars.get(toHex(path.narHash.digest))?.narSize as number,
      signatures: path.signatures ?? [],
    }));
    commits.push(await commitCandidates(trx, deps, { caches, lenders, candidates }));
  }
  return { nars, commits };
}

/** The same path with the same NAR may come from several workers in one group. */
function distinct(paths: readonly CommittedPath[]): CommittedPath[] {
  const first = new Map<StorePath, CommittedPath>();
  return paths.filter((path) => {
    const known = first.get(path.storePath);
    if (!known) first.set(path.storePath, path);
    return !known || !equalBytes(known.narHash.digest, path.narHash.digest);
  });
}

const queues = new WeakMap<DeliveryDeps, Deliveries>();

/** The deliveries of all who work with the same ports: they go into the same groups. */
export function deliveriesOf(deps: DeliveryDeps): Deliveries {
  const known = queues.get(deps) ?? new Deliveries(deps);
  queues.set(deps, known);
  return known;
}
