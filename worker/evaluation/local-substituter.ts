import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { ByteStream } from "#core/lib/streams.ts";
import { parseSha256Hex } from "#core/nix/hash.ts";
import { printNarInfo } from "#core/nix/narinfo.ts";
import { type StorePath, storePathHash } from "#core/nix/store-path.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";

/** Where paths come from. */
export interface SubstituterSource {
  /** By the hash part of its store path. Null when there is no such path. */
  find(hash: string): Promise<PathInfoField | null>;
  /** The NAR, checked against what was said of it; it ends with an error when it is not that. */
  open(path: StorePath): Promise<ByteStream>;
}

export interface OpenSubstituter extends Disposable {
  /** For Nix, as a store that needs no signature: what it gives was checked. */
  readonly url: string;
}

/** Who writes down what Nix says leaves the secret out. */
export const SUBSTITUTER_ADDRESS: RegExp = /http:\/\/127\.0\.0\.1:\d{1,5}\/[0-9a-f]{32}/g;

const HASH = "[0-9abcdfghijklmnpqrsvwxyz]{32}";
const ROUTE = new RegExp(`^/([0-9a-f]{32})/(?:(nix-cache-info)|(${HASH})\\.narinfo|nar/(${HASH})\\.nar)$`);
/** Before the public caches of the machine's configuration, whose priority is 40. */
const CACHE_INFO = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 10\n";

/**
 * Gives Nix on this machine what the server has for an organization, for imports from derivations. It listens on the
 * loopback, where other programs listen too: an address holds a secret of 128 bits, and is known to the evaluators of
 * one organization alone.
 */
export class LocalSubstituter implements AsyncDisposable {
  readonly #log: Logger;
  /** By the secret of the address: what evaluations ask now, the newest last. */
  readonly #sources = new Map<string, Set<SubstituterSource>>();
  /** By organization. */
  readonly #secrets = new Map<string, string>();
  #server: Promise<Server> | null = null;

  constructor(log: Logger) {
    this.#log = log;
  }

  /** The address stays the same for an organization: a process that knows it serves its next evaluation as well. */
  async open(organization: string, source: SubstituterSource): Promise<OpenSubstituter> {
    this.#server ??= this.#listen();
    const { port } = (await this.#server).address() as AddressInfo;
    const secret = this.#secrets.get(organization) ?? randomBytes(16).toString("hex");
    this.#secrets.set(organization, secret);
    const sources = this.#sources.get(secret) ?? new Set();
    this.#sources.set(secret, sources.add(source));
    return {
      url: `http://127.0.0.1:${port}/${secret}?trusted=1`,
      [Symbol.dispose]: () => void sources.delete(source),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const server = await this.#server?.catch(() => null);
    if (!server) return;
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }

  #listen(): Promise<Server> {
    return new Promise((resolve, reject) => {
      const server = createServer((request, response) => {
        this.#answer(request, response).catch((error: unknown) => {
          this.#log.warn("a path could not be given to an evaluator", { error });
          if (response.headersSent) response.destroy();
          else response.writeHead(500).end();
        });
      });
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () => resolve(server));
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, secret = "", cacheInfo, narInfoHash, narHash] = ROUTE.exec(request.url ?? "") ?? [];
    const source = [...(this.#sources.get(secret) ?? [])].at(-1);
    const isRead = request.method === "GET" || request.method === "HEAD";
    if (!source || !isRead) return void response.writeHead(404).end();
    if (cacheInfo) return void response.writeHead(200, { "content-type": "text/x-nix-cache-info" }).end(CACHE_INFO);
    const info = await source.find((narInfoHash ?? narHash) as string);
    if (!info) return void response.writeHead(404).end();
    if (narInfoHash) return void response.writeHead(200, { "content-type": "text/x-nix-narinfo" }).end(narInfoOf(info));
    response.writeHead(200, { "content-type": "application/x-nix-nar", "content-length": info.nar_size });
    if (request.method === "HEAD") return void response.end();
    await pipeline(Readable.from(await source.open(info.path)), response);
  }
}

function narInfoOf(info: PathInfoField): string {
  const narHash = parseSha256Hex(info.nar_hash);
  if (!narHash) throw new Error(`the server gave no hash of ${info.path}`);
  return printNarInfo({
    storePath: info.path,
    url: `nar/${storePathHash(info.path)}.nar`,
    compression: "none",
    fileHash: null,
    fileSize: null,
    narHash,
    narSize: info.nar_size,
    references: info.references,
    deriver: info.deriver,
    signatures: [],
    ca: info.ca,
  });
}
