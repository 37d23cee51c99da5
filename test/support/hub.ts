import { createHash } from "node:crypto";
import type { Kysely } from "kysely";
import type { Database } from "#core/db/schema.ts";
import { DEFAULT_RETRY_POLICY } from "#core/domain/failure.ts";
import { BuildStatus, EvaluationStatus } from "#core/domain/states.ts";
import { utf8 } from "#core/lib/bytes.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { createSecretKeys } from "#core/services/cache-sign.ts";
import { createSecretBox } from "#core/services/secret-box.ts";
import type { HubDeps } from "#runtime/node/hub/deps.ts";
import { Hub } from "#runtime/node/hub/hub.ts";
import { withCacheBench } from "../cache/support.ts";
import { FakeWorker, type FakeWorkerOptions } from "./fake-worker.ts";
import { type RecordingLogger, recordingLogger } from "./recording-logger.ts";
import { insertEvaluationRow, insertProjectRow, linkBuild, newId } from "./rows.ts";

export interface HubBench extends AsyncDisposable {
  readonly db: Kysely<Database>;
  readonly hub: Hub;
  readonly deps: HubDeps;
  readonly log: RecordingLogger;
  readonly organizationId: string;
  readonly projectId: string;
  /** Lets the worker in; its token is `token of <worker id>`. */
  addRegistration(workerId: string, organizationId?: string, token?: string): Promise<void>;
  makeOrganization(): Promise<string>;
  /** A worker that has not said anything yet. */
  worker(options?: FakeWorkerOptions): FakeWorker;
  /** One that is let in and has gone through the handshake. */
  registered(options?: { builds?: number; organizationId?: string; returnsNars?: boolean }): Promise<FakeWorker>;
  /** A queued evaluation. */
  addEvaluation(): Promise<string>;
  /** A build that is ready, of an evaluation that builds; of the bench's own organization and project by default. */
  addBuild(name: string, owner?: { organizationId: string; projectId: string }): Promise<BenchBuild>;
}

export interface BenchBuild {
  readonly id: string;
  readonly evaluationId: string;
  readonly output: StorePath;
}

/** Tokens are kept as they are: hashing them is not the point. */
const passwords: HubDeps["passwords"] = {
  hash: async (secret) => secret,
  verify: async (stored, secret) => stored === secret,
};

export const HUB_LIMITS: HubDeps["limits"] = {
  discoverable: true,
  maxProtoConnections: 256,
  maxConcurrentNarServes: 8,
  narStorageOpenTimeoutMs: 60_000,
  narSendChunkTimeoutMs: 30_000,
  maxNarBufferBytes: 10 * 2 ** 30,
  workerSampleIntervalMs: 15_000,
  workerHeartbeatTimeoutMs: 120_000,
  build: { timeoutMs: 0, maxSilentMs: 0 },
  evaluation: { timeoutMs: 60_000, attributesMax: 100, derivationsMax: 100, messagesMax: 100 },
};

/** A hub on a database and a store of its own, with one organization that has a project and a cache. */
export async function withHub(overrides: Partial<HubDeps> = {}): Promise<HubBench> {
  const stack = new AsyncDisposableStack();
  const bench = stack.use(await withCacheBench());
  const { db } = bench.database;
  const log = recordingLogger();
  const deps: HubDeps = {
    ...bench.deps,
    log,
    passwords,
    sshKeyOf: async () => "a private key",
    secretKeyOf: createSecretKeys(await createSecretBox(utf8("0123456789abcdef"))),
    retry: DEFAULT_RETRY_POLICY,
    leaseMs: 60_000,
    server: { id: newId(), storage: null },
    limits: HUB_LIMITS,
    ...overrides,
  };
  const makeOrganization = async (): Promise<string> => {
    const id = await bench.makeOrganization();
    await bench.makeInternalStore(id);
    const cache = await bench.makeCache();
    await bench.subscribe(id, cache.id, 0);
    return id;
  };
  const organizationId = await makeOrganization();
  const projectId = await insertProjectRow(db, { organizationId });
  const hub = await Hub.start(deps);
  stack.defer(() => hub.close());

  const addRegistration = async (
    workerId: string,
    organization = organizationId,
    token = `token of ${workerId}`,
  ): Promise<void> => {
    const row = { id: newId(), organization_id: organization, worker_id: workerId, display_name: workerId };
    await db
      .insertInto("worker_registration")
      .values({ ...row, token_hash: token })
      .execute();
  };
  const worker = (options: FakeWorkerOptions = {}) => new FakeWorker((socket) => hub.accept(socket), options);
  return {
    db,
    hub,
    deps,
    log,
    organizationId,
    projectId,
    addRegistration,
    makeOrganization,
    worker,
    async registered({ builds = 4, organizationId: organization = organizationId, returnsNars = false } = {}) {
      const workerId = crypto.randomUUID();
      await addRegistration(workerId, organization);
      const added = worker({ workerId, tokens: { [organization]: `token of ${workerId}` } });
      await added.register({ builds, returnsNars });
      return added;
    },
    addEvaluation: () => insertEvaluationRow(db, { organizationId, projectId, status: EvaluationStatus.Queued }),
    addBuild: (name, owner = { organizationId, projectId }) => insertReadyBuild(db, { ...owner, name }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** A build that is ready, of an evaluation that builds. */
export async function insertReadyBuild(
  db: Kysely<Database>,
  { organizationId, projectId, name }: { organizationId: string; projectId: string; name: string },
): Promise<BenchBuild> {
  const id = newId();
  const path = (text: string) => `${encodeBase32(createHash("sha256").update(text).digest().subarray(0, 20))}-${name}`;
  const output = path(`output of ${id}`);
  const row = { id, organization_id: organizationId, name, system: "x86_64-linux", status: BuildStatus.Queued };
  await db
    .insertInto("build")
    .values({ ...row, drv_path: `${path(id)}.drv` })
    .execute();
  await db.insertInto("build_output").values({ build_id: id, name: "out", store_path: output }).execute();
  const aterm = `Derive([("out","/nix/store/${output}","","")],[],[],"x86_64-linux","/bin/sh",[],[("name","${name}")])`;
  await db
    .insertInto("build_derivation")
    .values({ build_id: id, aterm: utf8(aterm) })
    .execute();
  const evaluationId = await insertEvaluationRow(db, { organizationId, projectId });
  await linkBuild(db, evaluationId, id);
  return { id, evaluationId, output: `/nix/store/${output}` as StorePath };
}
