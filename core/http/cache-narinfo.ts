import { utf8 } from "../lib/bytes.ts";
import { decodeBase32, encodeBase32 } from "../nix/base32.ts";
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
import { findKnownNar } from "./known-nar.ts";
import { PLACE_ALSO, PLACE_ONLY, PROXY_HEADER, placeHeaders } from "./nar-elsewhere.ts";
import type { NarMemory } from "./nar-memory.ts";
import type { NarPlaces } from "./nar-places.ts";
import type { FreshNarInfo, NarInfoMemory, RenderedNarInfo } from "./narinfo-memory.ts";
import { CACHE_PREFIX, type PlainAnswer, type PlainRequest } from "./plain-answer.ts";

export interface NarInfoDeps extends CacheLookupDeps {
  readonly hasher: Hasher;
  readonly uses: Pick<PathUses, "touch">;
  readonly nars: NarMemory;
  readonly places: Pick<NarPlaces, "areTold" | "find">;
  readonly relay?: CacheRelay;
}

interface NarInfoAsked {
  readonly cache: ServedCache;
  readonly hash: string;
  readonly via: string | null;
}

/** As it goes out to one that asks. */
interface ToldNarInfo extends RenderedNarInfo {
  /** For a proxy that sends the NAR without us. */
  readonly placeHeaders?: Readonly<Record<string, string>>;
}

const SUFFIX = ".narinfo";
const CONTENT_TYPE = "text/x-nix-narinfo";
const ETAG_LENGTH = 32;
/** Of a NAR of our own. An upstream's is relayed under another URL. */
const OWN_URL = /^URL: nar\/([^/.]{52})\.nar\.zst$/m;

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
  fromMemory({ method, target, ifNoneMatch, sendfileType }: PlainRequest): PlainAnswer | null {
    if (!target?.endsWith(SUFFIX) || !target.startsWith(CACHE_PREFIX)) return null;
    if (method !== "GET" && method !== "HEAD") return null;
    const slash = target.indexOf("/", CACHE_PREFIX.length);
    const cache = this.#door.remembered(target.slice(CACHE_PREFIX.length, slash));
    if (!cache) return null;
    const hash = target.slice(slash + 1, -SUFFIX.length);
    const key = `${cache.id}/${hash}`;
    const narInfo = this.#memory.get(key);
    if (!narInfo) return null;
    const isToldPlace = this.#isToldPlace(cache, sendfileType);
    const told: ToldNarInfo | null = isToldPlace ? this.#placedFromMemory({ cache, hash }, narInfo) : narInfo;
    if (!told) return null;
    if (sendfileType !== PLACE_ONLY) this.#deps.uses.touch(key);
    const { text, etag, contentLength, placeHeaders: place } = told;
    const cacheControl = answer.shortCacheControl(cache);
    if (ifNoneMatch !== undefined && isKnown(ifNoneMatch, etag)) {
      return { kind: "narinfo", status: 304, headers: ["etag", etag, "cache-control", cacheControl], body: "" };
    }
    const headers = ["content-type", CONTENT_TYPE, "x-content-type-options", "nosniff"];
    headers.push("content-length", contentLength, "etag", etag, "cache-control", cacheControl);
    if (place) headers.push(...Object.entries(place).flat());
    return { kind: "narinfo", status: 200, headers, body: method === "HEAD" ? "" : text };
  }

  async answer(
    request: Request,
    { cache, hash, asJson }: { readonly cache: ServedCache; readonly hash: string; readonly asJson: boolean },
  ): Promise<Response> {
    const key = `${cache.id}/${hash}`;
    const via = request.headers.get("via");
    // Servers that wait for our answer get one of their own: what we wait for may be theirs.
    const asked = { cache, hash, via };
    const narInfo = this.#memory.get(key) ?? (await this.#memory.load(key, () => this.#render(asked), via));
    if (!narInfo) return answer.notFound();
    const sendfileType = request.headers.get(PROXY_HEADER);
    // Whoever fetches a NAR has asked for its narinfo: one use is counted.
    if (sendfileType !== PLACE_ONLY) this.#deps.uses.touch(key);
    const cacheControl = answer.shortCacheControl(cache);
    if (asJson) return answer.json(narInfoJson(parseNarInfo(narInfo.text)), cacheControl);
    const isToldPlace = this.#isToldPlace(cache, sendfileType);
    const told: ToldNarInfo = isToldPlace ? await this.#placed(asked, narInfo) : narInfo;
    const { text, etag, contentLength, placeHeaders: place } = told;
    if (isNotModified(request.headers, etag)) return answer.notModified(etag, cacheControl);
    const headers = { "content-type": CONTENT_TYPE, "content-length": contentLength, etag };
    return new Response(text, {
      headers: { ...answer.NOT_GUESSED, ...headers, "cache-control": cacheControl, ...place },
    });
  }

  /** Of private caches the place is asked for with each request's credentials. */
  #isToldPlace(cache: ServedCache, sendfileType: string | null | undefined): boolean {
    const isAsked = sendfileType === PLACE_ALSO || sendfileType === PLACE_ONLY;
    return isAsked && cache.public && this.#deps.places.areTold;
  }

  /** As it is where its NAR is not ours; null where the place must be looked for. */
  #placedFromMemory(
    { cache, hash }: Pick<NarInfoAsked, "cache" | "hash">,
    narInfo: RenderedNarInfo,
  ): ToldNarInfo | null {
    const name = OWN_URL.exec(narInfo.text)?.[1];
    if (name === undefined) return narInfo;
    const known = this.#deps.nars.get(cache.id, name);
    const path = this.#deps.nars.pathOf(cache.id, name);
    return known && path !== null ? withPlace(narInfo, hash, placeHeaders(cache, { ...known, path })) : null;
  }

  /** As it is also where no place is found: the NAR is asked for by itself then. */
  async #placed(asked: Pick<NarInfoAsked, "cache" | "hash">, narInfo: RenderedNarInfo): Promise<ToldNarInfo> {
    const { nars, places } = this.#deps;
    const { cache, hash } = asked;
    const remembered = this.#placedFromMemory(asked, narInfo);
    if (remembered) return remembered;
    const { generation } = nars;
    const fileHash = decodeBase32(OWN_URL.exec(narInfo.text)?.[1] ?? "");
    // It may have been forgotten before its narinfo.
    const known = fileHash && (await findKnownNar(this.#deps, { cacheId: cache.id, fileHash }));
    const path = known ? await places.find(cache.id, known, generation) : null;
    return known && path !== null ? withPlace(narInfo, hash, placeHeaders(cache, { ...known, path })) : narInfo;
  }

  async #render({ cache, hash, via }: NarInfoAsked): Promise<FreshNarInfo | null> {
    const { generation } = this.#deps.nars;
    const own = await this.#stored.find({ cacheId: cache.id, hash });
    const text = own?.text ?? (await this.#deps.relay?.narInfo(cache, hash, via)) ?? null;
    if (text === null) return null;
    const bytes = utf8(text);
    const hasher = this.#deps.hasher.sha256();
    hasher.update(bytes);
    const etag = `"${encodeBase32(hasher.digest()).slice(0, ETAG_LENGTH)}"`;
    // Whoever asks for a narinfo mostly asks for its NAR next.
    const nar = own && { name: encodeBase32(own.fileHash), objectKey: own.objectKey, generation };
    return { text, etag, contentLength: String(bytes.length), nar };
  }
}

/**
 * Names its path in the NAR's URL, by which the proxy finds in its memory what it was told with this narinfo: nginx as
 * nixos/modules/server/nginx.nix has it reads it.
 */
function withPlace(
  { text, etag, contentLength }: RenderedNarInfo,
  hash: string,
  headers: Readonly<Record<string, string>>,
): ToldNarInfo {
  const query = `?hash=${hash}`;
  return {
    text: text.replace(OWN_URL, (url) => url + query),
    etag: `${etag.slice(0, -1)}-placed"`,
    contentLength: String(Number(contentLength) + query.length),
    placeHeaders: headers,
  };
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
