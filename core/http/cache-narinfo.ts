import { utf8 } from "../lib/bytes.ts";
import { encodeBase32 } from "../nix/base32.ts";
import { formatHash } from "../nix/hash.ts";
import { type NarInfo, parseNarInfo } from "../nix/narinfo.ts";
import { storePathBaseName } from "../nix/store-path.ts";
import type { Hasher } from "../ports/hasher.ts";
import { type CacheLookupDeps, NarInfoLookUp, type ServedCache } from "../services/cache-lookup.ts";
import type { PathUses } from "../services/cache-uses.ts";
import type { CacheDoor } from "./cache-access.ts";
import * as answer from "./cache-answers.ts";
import type { CacheRelay } from "./cache-relay.ts";
import { isKnown, isNotModified } from "./conditional.ts";
import { PLACE_ONLY, PROXY_HEADER } from "./nar-elsewhere.ts";
import type { NarMemory } from "./nar-memory.ts";
import type { NarPlaces } from "./nar-places.ts";
import type { NarInfoMemory, RenderedNarInfo } from "./narinfo-memory.ts";
import { CACHE_PREFIX, type PlainAnswer, type PlainRequest } from "./plain-answer.ts";

export interface NarInfoDeps extends CacheLookupDeps {
  readonly hasher: Hasher;
  readonly uses: Pick<PathUses, "touch">;
  readonly nars: NarMemory;
  readonly places: Pick<NarPlaces, "lookAhead">;
  readonly relay?: CacheRelay;
}

interface NarInfoAsked {
  readonly cache: ServedCache;
  readonly hash: string;
  readonly via: string | null;
  /** nginx will ask for the place of the NAR. */
  readonly forProxy: boolean;
}

const SUFFIX = ".narinfo";
const CONTENT_TYPE = "text/x-nix-narinfo";
const ETAG_LENGTH = 32;

export class NarInfoAnswers {
  readonly #deps: NarInfoDeps;
  readonly #door: CacheDoor;
  readonly #memory: NarInfoMemory;
  readonly #stored: NarInfoLookUp;

  constructor(deps: NarInfoDeps, door: CacheDoor, memory: NarInfoMemory) {
    this.#deps = deps;
    this.#door = door;
    this.#memory = memory;
    this.#stored = new NarInfoLookUp(deps);
  }

  /**
   * A narinfo of a public cache that is in memory; null for everything else. The names are looked up as they are: what
   * no cache can hold is found nowhere.
   */
  fromMemory({ method, target, ifNoneMatch }: PlainRequest): PlainAnswer | null {
    if (!target?.endsWith(SUFFIX) || !target.startsWith(CACHE_PREFIX)) return null;
    if (method !== "GET" && method !== "HEAD") return null;
    const slash = target.indexOf("/", CACHE_PREFIX.length);
    const cache = this.#door.remembered(target.slice(CACHE_PREFIX.length, slash));
    if (!cache) return null;
    const key = `${cache.id}/${target.slice(slash + 1, -SUFFIX.length)}`;
    const narInfo = this.#memory.get(key);
    if (!narInfo) return null;
    this.#deps.uses.touch(key);
    const { text, etag, contentLength } = narInfo;
    const cacheControl = answer.shortCacheControl(cache);
    if (ifNoneMatch !== undefined && isKnown(ifNoneMatch, etag)) {
      return { kind: "narinfo", status: 304, headers: ["etag", etag, "cache-control", cacheControl], body: "" };
    }
    const headers = ["content-type", CONTENT_TYPE, "x-content-type-options", "nosniff"];
    headers.push("content-length", contentLength, "etag", etag, "cache-control", cacheControl);
    return { kind: "narinfo", status: 200, headers, body: method === "HEAD" ? "" : text };
  }

  async answer(
    request: Request,
    { cache, hash, asJson }: { readonly cache: ServedCache; readonly hash: string; readonly asJson: boolean },
  ): Promise<Response> {
    const key = `${cache.id}/${hash}`;
    const via = request.headers.get("via");
    const forProxy = request.method === "GET" && !asJson && request.headers.get(PROXY_HEADER) === PLACE_ONLY;
    const asked = { cache, hash, via, forProxy };
    // Servers that wait for our answer get one of their own: what we wait for may be theirs.
    const narInfo = this.#memory.get(key) ?? (await this.#memory.load(key, () => this.#render(asked), via));
    if (!narInfo) return answer.notFound();
    this.#deps.uses.touch(key);
    const cacheControl = answer.shortCacheControl(cache);
    if (asJson) return answer.json(narInfoJson(parseNarInfo(narInfo.text)), cacheControl);
    if (isNotModified(request.headers, narInfo.etag)) return answer.notModified(narInfo.etag, cacheControl);
    return new Response(narInfo.text, {
      headers: {
        ...answer.NOT_GUESSED,
        "content-type": CONTENT_TYPE,
        "content-length": narInfo.contentLength,
        etag: narInfo.etag,
        "cache-control": cacheControl,
      },
    });
  }

  async #render(asked: NarInfoAsked): Promise<RenderedNarInfo | null> {
    const { cache, hash: pathHash, via } = asked;
    const own = await this.#findOwn(asked);
    const text = own ?? (await this.#deps.relay?.narInfo(cache, pathHash, via)) ?? null;
    if (text === null) return null;
    const bytes = utf8(text);
    const hash = this.#deps.hasher.sha256();
    hash.update(bytes);
    const etag = `"${encodeBase32(hash.digest()).slice(0, ETAG_LENGTH)}"`;
    return { text, etag, contentLength: String(bytes.length) };
  }

  /** Whoever asks for a narinfo mostly asks for its NAR next: what is known of it is kept for that. */
  async #findOwn({ cache, hash: pathHash, forProxy }: NarInfoAsked): Promise<string | null> {
    const { nars, places } = this.#deps;
    const { generation } = nars;
    const found = await this.#stored.find({ cacheId: cache.id, hash: pathHash });
    if (!found) return null;
    const { nar, text } = found;
    const asked = { cacheId: cache.id, name: encodeBase32(nar.fileHash.digest) };
    if (!nars.get(cache.id, asked.name)) nars.put(asked, { nar, pathHash, name: asked.name, file: null }, generation);
    // Of private caches the place is asked for with each request's credentials, and never answered of memory.
    if (forProxy && cache.public) places.lookAhead(asked, nar, generation);
    return text;
  }
}

/** Fields are called as in the file. `Sig` is the first of `Sigs`; what is absent is null. */
function narInfoJson(info: NarInfo): object {
  return {
    StorePath: info.storePath,
    URL: info.url,
    Compression: info.compression,
    FileHash: info.fileHash && formatHash(info.fileHash, "nix32"),
    FileSize: info.fileSize,
    NarHash: formatHash(info.narHash, "nix32"),
    NarSize: info.narSize,
    References: info.references.map(storePathBaseName),
    Deriver: info.deriver && storePathBaseName(info.deriver),
    Sig: info.signatures[0] ?? null,
    Sigs: info.signatures,
    CA: info.ca,
  };
}
