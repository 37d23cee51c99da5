import type { HttpBindings } from "@hono/node-server";
import { networkContains } from "#core/domain/ip-address.ts";
import { createCacheActors } from "#core/http/cache-actors.ts";
import { answerPut } from "#core/http/cache-put.ts";
import type { CacheRelay } from "#core/http/cache-relay.ts";
import { type CacheSurface, createCacheSurface } from "#core/http/cache-surface.ts";
import { clientAddress } from "#core/http/client-address.ts";
import { createUpstreamRelay } from "#core/http/upstream-relay.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom, uuidV7 } from "#core/lib/ids.ts";
import type { BlobStore } from "#core/ports/blob-store.ts";
import type { LogSealDeps } from "#core/services/build-logs-seal.ts";
import { lookUpRealisation } from "#core/services/cache-realisation.ts";
import { createSecretKeys, type SecretKeyOf } from "#core/services/cache-sign.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import { UploadPlaces } from "#core/services/cache-upload-places.ts";
import { createPathUses, type PathUses } from "#core/services/cache-uses.ts";
import type { DebugIndexDeps } from "#core/services/debug-info.ts";
import type { ServiceSettings } from "#core/services/deps.ts";
import { createEvaluationControl } from "#core/services/evaluations-control.ts";
import type { NarProofs } from "#core/services/nar-damage.ts";
import { NarListings } from "#core/services/nar-listings.ts";
import { type CollectedProofs, createNarProofs } from "#core/services/nar-proofs.ts";
import { createSshKeys } from "#core/services/organization-key.ts";
import type { RetentionDeps } from "#core/services/retention-deps.ts";
import { createSecretBox, type SecretBox } from "#core/services/secret-box.ts";
import type { NarTraffic } from "#core/services/traffic.ts";
import type { TriggerDeps } from "#core/services/triggers-run.ts";
import { UpstreamRelay } from "#core/services/upstream-relay.ts";
import { Upstreams } from "#core/services/upstreams.ts";
import { type AppDeps, createApp } from "#handlers/app.ts";
import type { ActionLoopDeps } from "./action-loop.ts";
import { peerAddress } from "./client-of.ts";
import { nodeCodec } from "./codec.ts";
import type { Config } from "./config.ts";
import type { Databases } from "./database.ts";
import { createFront, type Front } from "./front.ts";
import { createGitRemote } from "./git-remote.ts";
import { nodeHasher } from "./hasher.ts";
import type { HubDeps } from "./hub/deps.ts";
import type { Loggers } from "./logger.ts";
import type { AccountLoopDeps } from "./mail-loop.ts";
import { createMailer } from "./mailer.ts";
import type { RunningNotifier } from "./notifier.ts";
import { openOidc } from "./oidc.ts";
import { createOutbound } from "./outbound.ts";
import { argon2Hasher } from "./password-hasher.ts";
import type { Secrets } from "./secrets.ts";
import type { Storage } from "./storage.ts";
import { VERSION } from "./version.ts";
import { createWorkerDial } from "./worker-dial.ts";

export interface Parts {
  readonly config: Config;
  readonly loggers: Loggers;
  readonly databases: Databases;
  readonly notifier: RunningNotifier;
  readonly secrets: Secrets;
  readonly storage: Storage;
}

export interface Composition {
  readonly fetch: (request: Request, env: HttpBindings) => Promise<Response>;
  /** What is answered before anything else looks at the request. */
  readonly fromMemory: CacheSurface["fromMemory"];
  readonly front: Front;
  readonly hub: HubDeps;
  readonly uses: PathUses;
  readonly proofs: CollectedProofs;
  readonly logs: Omit<LogSealDeps, "log">;
  readonly retention: RetentionDeps;
  readonly debugIndex: DebugIndexDeps;
  readonly accounts: AccountLoopDeps;
  readonly triggers: TriggerDeps;
  readonly acting: ActionLoopDeps;
  /** Lets go of connections to others. */
  readonly close: () => void;
}

/** A lease whose worker is never given up on still ends some day. */
const LEASE_MS_WITHOUT_HEARTBEAT = 86_400_000;

const PORTS = { clock: systemClock, random: systemRandom, hasher: nodeHasher, codec: nodeCodec };

/** Puts the ports of this runtime under the services, and the services under the handlers and the hub. */
export async function compose(parts: Parts): Promise<Composition> {
  const { config, databases, loggers, notifier } = parts;
  const { blobs } = parts.storage;
  const secrets = await createSecretBox(parts.secrets.crypt);
  const front = createFront(parts);
  const proofs = createNarProofs({ db: databases.scheduler, clock: systemClock });
  const common = { ...PORTS, proofs, notifier, blobs };
  const outbound = createOutbound(config.outbound);
  const oidc = openOidc(config);
  const served = { ...common, db: databases.scheduler, log: loggers.cache };
  const upstreamDeps = { ...served, secrets, outbound, ...upstreamOptions(config) };
  const hub = hubDeps(parts, common, { secrets, upstreams: new Upstreams(upstreamDeps) });
  const transitions = { ...hub, db: databases.web, log: loggers.scheduler };
  const pushes = { uploadPlaces: new UploadPlaces(), narUploadBytesMax: config.uploads.narBytesMax };
  const git = createGitRemote({ ...gitOptions(config), sshKeyOf: hub.sshKeyOf });
  const projects = { keepEvaluations: config.keepEvaluations, allowLocalSources: config.allowLocalSources };
  const accounts = { ...common, ...accountParts(parts) };
  const actions = { web: outbound, mailer: accounts.mailer };
  const app = createApp({
    ...common,
    db: databases.web,
    log: loggers.web,
    passwords: argon2Hasher,
    secrets,
    settings: settingsOf(config, parts.secrets),
    git,
    control: createEvaluationControl(transitions),
    projects,
    retention: { ...config.retention, keepEvaluations: config.keepEvaluations },
    sourceBytesMax: config.sourceBytesMax,
    ...pushes,
    secretKeyOf: hub.secretKeyOf,
    upstreams: hub.upstreams,
    outbound,
    actions,
    oidc: oidc.provider,
    http: { ...httpOptions(config), ...front.options },
  } satisfies AppDeps);
  const uses = createPathUses(served);
  const listings = new NarListings({ ...common, db: databases.web, log: loggers.cache });
  const relayDeps = { ...upstreamDeps, upstreams: hub.upstreams, secretKeyOf: hub.secretKeyOf };
  const relay = createUpstreamRelay(new UpstreamRelay(relayDeps));
  const uploads = { ...served, ...pushes, secretKeyOf: hub.secretKeyOf, upstreams: hub.upstreams };
  const cacheParts = { blobs, proofs, uses, listings, relay, secretKeyOf: hub.secretKeyOf, traffic: front.traffic };
  const cache = cacheFetch(parts, cacheParts, uploads);
  const fetch: Composition["fetch"] = async (request, env) =>
    (await cache.fetch(request, env)) ?? (await front.answerMetrics(request, env)) ?? app.fetch(request, env);
  const retention = { ...hub, retention: { ...config.retention, keepEvaluations: config.keepEvaluations } };
  const close = () => {
    outbound.close();
    oidc.close();
  };
  const triggers = { ...common, db: databases.scheduler, log: loggers.scheduler, git, projects };
  return {
    fetch,
    fromMemory: cache.fromMemory,
    front,
    hub,
    uses,
    proofs,
    logs: { ...common, db: databases.web, logFrameBytes: config.logChunkBytes },
    debugIndex: { db: databases.web, log: loggers.cache, listings },
    accounts,
    triggers,
    acting: { ...accounts, secrets, actions },
    retention,
    close,
  };
}

type Common = typeof PORTS & Pick<HubDeps, "proofs" | "notifier" | "blobs">;

function hubDeps(
  { config, databases, loggers, storage }: Parts,
  common: Common,
  { secrets, upstreams }: { readonly secrets: SecretBox; readonly upstreams: Upstreams },
): HubDeps {
  return {
    ...common,
    server: { id: uuidV7(systemClock.now(), systemRandom), storage: storage.sharedName },
    db: databases.scheduler,
    log: loggers.proto,
    dialWorker: createWorkerDial(config.outbound),
    upstreams,
    passwords: argon2Hasher,
    secretKeyOf: createSecretKeys(secrets),
    sshKeyOf: createSshKeys(databases.scheduler, secrets),
    retry: { attemptsMax: config.builds.attemptsMax, backoffMs: config.builds.retryBackoffMs },
    leaseMs: config.workers.heartbeatTimeoutMs || LEASE_MS_WITHOUT_HEARTBEAT,
    limits: hubLimits(config),
  };
}

function accountParts({ config, databases, loggers, secrets }: Parts) {
  const mailer = config.mail && createMailer(config.mail);
  return { db: databases.web, log: loggers.web, settings: settingsOf(config, secrets), mailer };
}

function hubLimits({ workers, builds, evaluations }: Config): HubDeps["limits"] {
  return {
    discoverable: workers.discoverable,
    maxProtoConnections: workers.connectionsMax,
    maxConcurrentNarServes: workers.narServesMax,
    narStorageOpenTimeoutMs: workers.narOpenTimeoutMs,
    narSendChunkTimeoutMs: workers.narSendTimeoutMs,
    maxNarBufferBytes: workers.narBufferBytesMax,
    workerSampleIntervalMs: workers.sampleIntervalMs,
    workerHeartbeatTimeoutMs: workers.heartbeatTimeoutMs || Number.POSITIVE_INFINITY,
    build: { timeoutMs: builds.timeoutMs, maxSilentMs: builds.maxSilentMs },
    evaluation: evaluations,
  };
}

function upstreamOptions({ serveUrl, upstreamQueriesMax }: Config) {
  return { viaName: new URL(serveUrl).host, upstreamQueriesMax };
}

function gitOptions({ allowLocalSources: allowLocal, outbound, basePath: folder }: Config) {
  return { allowLocal, outbound, folder };
}

function httpOptions({ requestBytesMax, trustedProxies }: Config): AppDeps["http"] {
  return { requestBytesMax, trustedProxies, peerAddress: (c) => peerAddress((c.env as HttpBindings).incoming.socket) };
}

/** The cache's surface stands ahead of the API and its middleware. */
function cacheFetch(
  { config, databases, loggers, notifier, secrets }: Parts,
  parts: {
    readonly blobs: BlobStore;
    readonly proofs: NarProofs;
    readonly uses: PathUses;
    readonly listings: NarListings;
    readonly relay: CacheRelay;
    readonly secretKeyOf: SecretKeyOf;
    readonly traffic: NarTraffic;
  },
  uploads: UploadDeps,
): {
  readonly fetch: (request: Request, env: HttpBindings) => Promise<Response | null>;
  readonly fromMemory: CacheSurface["fromMemory"];
} {
  const db = databases.scheduler;
  const settings = settingsOf(config, secrets);
  const deps = { db, clock: systemClock, settings };
  // The surface knows requests only; who sent one is asked for where credentials came with it.
  const environments = new WeakMap<Request, HttpBindings>();
  const addressOf = (request: Request): string => {
    const env = environments.get(request);
    return clientAddress(
      peerAddress(env?.incoming.socket),
      request.headers.get("x-forwarded-for"),
      config.trustedProxies,
    );
  };
  const actors = createCacheActors(deps, addressOf);
  const surface = createCacheSurface({
    ...deps,
    ...parts,
    hasher: nodeHasher,
    codec: nodeCodec,
    notifier,
    log: loggers.cache,
    instance: settings,
    elsewhere: { ...config.storage, proxyCounts: config.storage.proxyLogPath !== null },
    ...actors,
    write: (request) => answerPut({ ...uploads, authenticate: actors.authenticate }, request),
    isLocalClient(request) {
      const address = addressOf(request);
      return config.localIps.some((network) => networkContains(network, address));
    },
    realisation: (cache, { derivation, output }) =>
      lookUpRealisation({ db, ...parts }, cache.id, { hash: derivation.slice("sha256:".length), output }),
  });
  return {
    fromMemory: surface.fromMemory,
    fetch(request, env) {
      // An entry for every request would be a third of a hot narinfo's cost.
      if (request.headers.has("authorization") || request.url.includes("/nix-cache-info")) {
        environments.set(request, env);
      }
      return surface(request);
    },
  };
}

export function settingsOf(config: Config, secrets: Secrets): ServiceSettings {
  const { serveUrl, frontendUrl, secureCookie, registrationEnabled, createOrganization, createCache } = config;
  return {
    version: VERSION,
    serveUrl,
    frontendUrl,
    secureCookie,
    jwtSecret: secrets.jwt,
    registrationEnabled,
    mail: config.mail && { verificationRequired: config.mail.verificationRequired },
    oidc: config.oidc && { required: config.oidc.required, iconUrl: config.oidc.iconUrl },
    createOrganization,
    createCache,
    globalStatsPublic: config.globalStatsPublic,
  };
}
