import { serve } from "@hono/node-server";
import type { Actor } from "#core/domain/actor.ts";
import { CACHE_ROLE } from "#core/domain/permissions.ts";
import { answerPut } from "#core/http/cache-put.ts";
import { cacheToken } from "#core/http/credentials.ts";
import type { Bytes } from "#core/lib/bytes.ts";
import { encodeBase32 } from "#core/nix/base32.ts";
import type { Hash } from "#core/nix/hash.ts";
import { printNarInfo } from "#core/nix/narinfo.ts";
import { makeSourcePath, type StorePath, storePathHash } from "#core/nix/store-path.ts";
import { requireCache } from "#core/services/access.ts";
import { lookUpRealisation } from "#core/services/cache-realisation.ts";
import type { UploadDeps } from "#core/services/cache-upload.ts";
import { UploadPlaces } from "#core/services/cache-upload-places.ts";
import {
  type CacheBench,
  fileNar,
  narHashOf,
  newId,
  randomContent,
  type TestCache,
  withCacheBench,
} from "./support.ts";

export interface TestPusher {
  readonly id: string;
  readonly actor: Actor;
  readonly headers: Record<string, string>;
}

export interface PushBench extends CacheBench {
  readonly uploads: UploadDeps;
  /** What the server answers at `/cache/…`, with the path behind it. */
  ask(method: string, path: string, options?: PushRequest): Promise<Response>;
  /** A user with this role in each of the caches, and a password that stands for them. */
  pusher(roles?: Readonly<Record<string, keyof typeof CACHE_ROLE>>, key?: Actor["key"]): Promise<TestPusher>;
  /** The same over a socket. */
  listen(
    overrides?: Parameters<CacheBench["surface"]>[0],
  ): Promise<AsyncDisposable & { readonly port: number; readonly requests: string[] }>;
}

export interface PushRequest {
  readonly as?: TestPusher;
  readonly body?: Uint8Array | string | ReadableStream<Uint8Array>;
  readonly headers?: Record<string, string>;
}

const ORIGIN = "https://cache.example.org/cache/";
export const NAR_UPLOAD_BYTES_MAX = 1024 * 1024;

export async function withPushBench(overrides: Partial<UploadDeps> = {}): Promise<PushBench> {
  const bench = await withCacheBench();
  const { db } = bench.deps;
  const actors = new Map<string, Actor>();
  const uploads: UploadDeps = {
    ...bench.deps,
    secretKeyOf: bench.secretKeyOf,
    uploadPlaces: new UploadPlaces(),
    narUploadBytesMax: NAR_UPLOAD_BYTES_MAX,
    ...overrides,
  };
  const authenticate = async (request: Request) => actors.get(cacheToken(request.headers) ?? "") ?? null;
  const surfaceParts: Parameters<CacheBench["surface"]>[0] = {
    authenticate,
    canReadCache: (actor, { name }) =>
      requireCache({ db }, actor, name, "readStore").then(
        () => true,
        () => false,
      ),
    write: (request) => answerPut({ ...uploads, authenticate }, request),
    realisation: (cache, { derivation, output }) =>
      lookUpRealisation(uploads, cache.id, { hash: derivation.slice("sha256:".length), output }),
  };
  const surface = bench.surface(surfaceParts);
  return {
    ...bench,
    uploads,
    async ask(method, path, { as, body, headers = {} } = {}) {
      const init = { method, headers: { ...as?.headers, ...headers }, ...(body === undefined ? {} : { body }) };
      const request = new Request(ORIGIN + path, { ...init, duplex: "half" } as RequestInit);
      const response = await surface(request);
      if (!response) throw new Error(`${path} is not the surface's`);
      return response;
    },
    async pusher(roles = {}, key = null) {
      const id = newId();
      const user = { id, username: `user-${id}`, name: "", email: `${id}@example.org` };
      await db.insertInto("user_account").values(user).execute();
      for (const [cacheId, role] of Object.entries(roles)) {
        const member = { cache_id: cacheId, user_id: id, role_id: CACHE_ROLE[role] };
        await db.insertInto("cache_member").values(member).execute();
      }
      const actor = { user: { id, username: user.username, superuser: false }, key, sessionId: null };
      actors.set(id, actor);
      return { id, actor, headers: { authorization: `Basic ${btoa(`nix:${id}`)}` } };
    },
    async listen(overrides) {
      const answer = bench.surface({ ...surfaceParts, ...overrides });
      const requests: string[] = [];
      const fetch = async (request: Request): Promise<Response> => {
        const response = (await answer(request)) ?? new Response("elsewhere", { status: 404 });
        requests.push(`${request.method} ${new URL(request.url).pathname} -> ${response.status}`);
        return response;
      };
      const server = serve({ fetch, port: 0, hostname: "127.0.0.1" });
      await new Promise((resolve) => server.once("listening", resolve));
      const { port } = server.address() as { port: number };
      const close = () =>
        new Promise<void>((resolve) => {
          server.close(() => resolve());
          if ("closeAllConnections" in server) server.closeAllConnections();
        });
      return { port, requests, [Symbol.asyncDispose]: close };
    },
    [Symbol.asyncDispose]: () => bench[Symbol.asyncDispose](),
  };
}

/** A path that a client has and the server does not, with its NAR unpacked. */
export interface LocalPath {
  readonly storePath: StorePath;
  readonly hash: string;
  readonly nar: Bytes;
  readonly narHash: Hash;
  readonly references: readonly StorePath[];
}

export async function localPath(
  name: string,
  {
    content = randomContent(500),
    references = [],
  }: { readonly content?: Bytes; readonly references?: readonly StorePath[] } = {},
): Promise<LocalPath> {
  const nar = await fileNar(content);
  const narHash = await narHashOf(nar);
  const storePath = await makeSourcePath(name, narHash.digest, references);
  return { storePath, hash: storePathHash(storePath), nar, narHash, references };
}

/** The name that the stock client puts a file under. */
export async function narName(file: Bytes, ending = ".nar.xz"): Promise<string> {
  return `nar/${encodeBase32((await narHashOf(file)).digest)}${ending}`;
}

/** The narinfo that the stock client would put. */
export async function narInfoText(
  path: LocalPath,
  { file = path.nar, signatures = [] }: { readonly file?: Bytes; readonly signatures?: readonly string[] } = {},
): Promise<string> {
  return printNarInfo({
    storePath: path.storePath,
    url: await narName(file),
    compression: "xz",
    fileHash: await narHashOf(file),
    fileSize: file.length,
    narHash: path.narHash,
    narSize: path.nar.length,
    references: path.references,
    deriver: null,
    signatures,
    ca: null,
  });
}

/** Pushes a path as the stock client does; the status of the narinfo. */
export async function push(
  bench: Pick<PushBench, "ask">,
  as: TestPusher,
  cache: Pick<TestCache, "name">,
  path: LocalPath,
): Promise<number> {
  const put = await bench.ask("PUT", `${cache.name}/${await narName(path.nar)}`, { as, body: path.nar });
  if (put.status !== 200) return put.status;
  const body = await narInfoText(path);
  return (await bench.ask("PUT", `${cache.name}/${path.hash}.narinfo`, { as, body })).status;
}
