import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { insertCache } from "#core/db/caches.ts";
import { inTransaction } from "#core/db/transaction.ts";
import type { Actor } from "#core/domain/actor.ts";
import { type IpNetwork, parseIpNetwork } from "#core/domain/ip-address.ts";
import { type CacheSurface, type CacheSurfaceDeps, createCacheSurface } from "#core/http/cache-surface.ts";
import { type Bytes, concatBytes, toHex, utf8 } from "#core/lib/bytes.ts";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom, uuidV7 } from "#core/lib/ids.ts";
import { collect, streamOf } from "#core/lib/streams.ts";
import { type Hash, sha256 } from "#core/nix/hash.ts";
import { writeNar } from "#core/nix/nar-writer.ts";
import { makeSourcePath, type StorePath } from "#core/nix/store-path.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { Notifier, Topic } from "#core/ports/notifier.ts";
import { type CommitResult, type CommittedPath, commitPaths } from "#core/services/cache-commit.ts";
import { makeCacheKey } from "#core/services/cache-key.ts";
import { createSecretKeys, type SecretKeyOf } from "#core/services/cache-sign.ts";
import type { Nar } from "#core/services/nar.ts";
import { NarListings } from "#core/services/nar-listings.ts";
import { type NarReceiveDeps, receiveNar } from "#core/services/nar-receive.ts";
import { createSecretBox, type SecretBox } from "#core/services/secret-box.ts";
import type { UpstreamOpenDeps } from "#core/services/upstream-open.ts";
import { Upstreams, type UpstreamsDeps } from "#core/services/upstreams.ts";
import { nodeCodec } from "#runtime/node/codec.ts";
import { openDiskBlobStore } from "#runtime/node/disk-blob-store.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { createOutbound } from "#runtime/node/outbound.ts";
import { type TestDatabase, withDatabase } from "#test/support/database.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";

export interface TestCache {
  readonly id: string;
  readonly name: string;
  readonly publicKey: string;
}

/** A server's caches on a database and a disk store of their own. */
export interface CacheBench extends AsyncDisposable {
  readonly database: TestDatabase;
  readonly blobFolder: string;
  readonly deps: NarReceiveDeps & UpstreamsDeps & UpstreamOpenDeps & { readonly secrets: SecretBox };
  readonly secretKeyOf: SecretKeyOf;
  readonly logged: string[];
  /** Paths of the files in the blob store. */
  objectFiles(): Promise<string[]>;
  makeCache(options?: { name?: string; public?: boolean; active?: boolean }): Promise<TestCache>;
  makeOrganization(): Promise<string>;
  makeInternalStore(organizationId: string): Promise<string>;
  subscribe(organizationId: string, cacheId: string, mode: number): Promise<void>;
  commit(cacheIds: readonly string[], paths: readonly CommittedPath[], organizationId?: string): Promise<CommitResult>;
  surface(overrides?: Partial<CacheSurfaceDeps>): CacheSurface;
}

export async function withCacheBench(): Promise<CacheBench> {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await withDatabase());
  const folder = stack.use(await withTemporaryFolder());
  const logged: string[] = [];
  const blobFolder = `${folder.path}/blobs`;
  const outbound = createOutbound({ allowed: [parseIpNetwork("127.0.0.1/32") as IpNetwork], privateAllowed: true });
  stack.defer(() => outbound.close());
  const secrets = await createSecretBox(utf8("0123456789abcdef"));
  const common = {
    db: database.db,
    blobs: await openDiskBlobStore(blobFolder),
    codec: nodeCodec,
    hasher: nodeHasher,
    notifier: localNotifier(),
    log: recordingLogger(logged),
    clock: systemClock,
    random: systemRandom,
    outbound,
    upstreamQueriesMax: 32,
    viaName: "cache.example.org",
    secrets,
  };
  const deps = { ...common, upstreams: new Upstreams(common) };
  const secretKeyOf = createSecretKeys(secrets);
  const { db } = deps;
  return {
    database,
    blobFolder,
    deps,
    secretKeyOf,
    logged,
    async objectFiles() {
      const entries = await readdir(blobFolder, { recursive: true, withFileTypes: true });
      return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    },
    makeCache: (options) => addCache(database, secrets, options),
    makeOrganization: () => addOrganization(database),
    makeInternalStore: (organizationId) => addInternalStore(database, secrets, organizationId),
    async subscribe(organizationId, cacheId, mode) {
      const subscription = { id: newId(), organization_id: organizationId, cache_id: cacheId, mode };
      await db.insertInto("organization_cache").values(subscription).execute();
    },
    commit: (cacheIds, paths, organizationId) =>
      inTransaction(db, (trx) =>
        commitPaths(trx, { secretKeyOf }, { cacheIds, organizationId: organizationId ?? null, paths }),
      ),
    surface: (overrides) =>
      createCacheSurface({
        ...deps,
        uses: { touch: () => {} },
        listings: new NarListings(deps),
        instance: { version: "1.2.3", serveUrl: SETTINGS.serveUrl },
        authenticate: async () => null,
        canReadCache: async () => false,
        ...overrides,
      }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

const SETTINGS = { serveUrl: "https://cache.example.org" } as Parameters<typeof makeCacheKey>[0]["settings"];

async function addInternalStore({ db }: TestDatabase, secrets: SecretBox, organizationId: string): Promise<string> {
  const id = newId();
  const keys = await makeCacheKey({ secrets, settings: SETTINGS }, id, "internal");
  const store = { id, kind: 1, organization_id: organizationId, display_name: "", description: "", ...keys };
  await insertCache(db, store);
  return id;
}

async function addOrganization({ db }: TestDatabase): Promise<string> {
  const id = newId();
  const organization = { id, name: `org-${id}`, display_name: "", description: "", ssh_public_key: "" };
  await db
    .insertInto("organization")
    .values({ ...organization, ssh_secret_key: new Uint8Array(1) })
    .execute();
  return id;
}

async function addCache(
  { db }: TestDatabase,
  secrets: SecretBox,
  { name = `cache-${newId()}`, public: isPublic = true, active = true } = {},
): Promise<TestCache> {
  const id = newId();
  const keys = await makeCacheKey({ secrets, settings: SETTINGS }, id, name);
  await insertCache(db, { id, name, display_name: "", description: "", public: isPublic, active, ...keys });
  return { id, name, publicKey: keys.public_key };
}

export function newId(): string {
  return uuidV7(Date.now());
}

/** Tells subscribers of this process after a turn of the event loop, as a round through the database would be later. */
export function localNotifier(): Notifier {
  const handlers = new Map<Topic, Set<(subject: string) => void>>();
  return {
    notify(topic, subject) {
      setImmediate(() => {
        for (const handler of handlers.get(topic) ?? []) handler(subject);
      });
    },
    subscribe(topic, handler) {
      const subscribed = handlers.get(topic) ?? new Set();
      handlers.set(topic, subscribed.add(handler));
      return () => subscribed.delete(handler);
    },
  };
}

export function recordingLogger(lines: string[]): Logger {
  const record = (message: string) => void lines.push(message);
  const logger: Logger = { debug: record, info: record, warn: record, error: record, with: () => logger };
  return logger;
}

/** The NAR of one file. */
export async function fileNar(content: Uint8Array): Promise<Bytes> {
  const events = [
    { kind: "file", name: "", executable: false, size: content.length, offset: 0 },
    ...(content.length > 0 ? [{ kind: "content", bytes: content } as const] : []),
  ] as const;
  return await collect(writeNar(events), 2 ** 30);
}

/** Bytes that no compression makes smaller. */
export function randomContent(length: number): Bytes {
  return new Uint8Array(randomBytes(length));
}

export async function narHashOf(nar: Bytes): Promise<Hash> {
  return { algorithm: "sha256", digest: await sha256(nar) };
}

export async function compressed(nar: Bytes): Promise<Bytes> {
  return await collect(nodeCodec.compressZstd(streamOf(nar), { level: 1 }), 2 ** 30);
}

export interface StoredPath extends CommittedPath {
  readonly nar: Nar;
}

/** Stores a file's NAR and gives it a store path that fits. Nothing names it yet. */
export async function storeFile(
  { deps }: { readonly deps: NarReceiveDeps },
  name: string,
  { content = utf8(`${name} ${toHex(randomContent(8))}`), references = [] as readonly StorePath[] } = {},
): Promise<StoredPath> {
  const bytes = await fileNar(content);
  const narHash = await narHashOf(bytes);
  const upload = { narHash, narSize: bytes.length, compression: "none", body: streamOf(...cut(bytes)) } as const;
  const nar = await receiveNar(deps, upload);
  const storePath = await makeSourcePath(name, narHash.digest, references);
  return { storePath, narHash, references, deriver: null, ca: null, nar };
}

/** As a connection delivers it. */
export function cut(bytes: Bytes, size = 64 * 1024): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; start += size) parts.push(bytes.subarray(start, start + size));
  return parts;
}

export async function bodyOf(response: Response): Promise<Bytes> {
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const parts: Uint8Array[] = [];
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    parts.push(value as Uint8Array);
  }
  return concatBytes(parts);
}

/** A signed-in user without any right of their own. */
export const SIGNED_IN: Actor = {
  user: { id: newId(), username: "ada", superuser: false },
  key: null,
  sessionId: null,
};
