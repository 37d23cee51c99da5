import { DomainError } from "../errors.ts";
import { fromUtf8 } from "../lib/bytes.ts";
import { SECOND } from "../lib/clock.ts";
import { collect } from "../lib/streams.ts";
import { formatPublicKey, parsePublicKey } from "../nix/signature.ts";
import { type Outbound, OutboundError } from "../ports/outbound.ts";

const KEYS_MAX = 8;
const TIMEOUT_MS = 5 * SECOND;
const ANSWER_BYTES_MAX = 64 * 1024;
const REMOTE_CACHE = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}$/;

/** Without slashes at its end, so that one cache is not added twice. */
export function requireUpstreamUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol)) {
    throw new DomainError("validation", "url: must begin with http:// or https://");
  }
  if (url.username !== "" || url.password !== "") {
    throw new DomainError("validation", "url: must not hold a name or password: everybody who reads the cache sees it");
  }
  if (url.search !== "" || url.hash !== "") throw new DomainError("validation", "url: must end with its path");
  return url.href.replace(/\/+$/, "");
}

export function requirePublicKeys(text: string): string[] {
  const keys = text.split(/\s+/).filter((key) => key !== "");
  if (keys.length > KEYS_MAX) throw new DomainError("validation", `public_key: holds more than ${KEYS_MAX} keys`);
  const parsed = keys.map(parsePublicKey);
  if (keys.length === 0 || parsed.includes(null)) {
    throw new DomainError("validation", "public_key: must be of the form `name:base64`, as in trusted-public-keys");
  }
  return [...new Set(parsed.flatMap((key) => (key ? formatPublicKey(key) : [])))];
}

export function requireRemoteCache(text: string): string {
  if (REMOTE_CACHE.test(text)) return text;
  throw new DomainError("validation", "remote_cache: must be the name of a cache: letters, digits, `.`, `_` and `-`");
}

export function requireApiKey(text: string, url: string): string {
  if (!/^[!-~]+$/.test(text)) throw new DomainError("validation", "api_key: must be an API key, without spaces");
  if (url.startsWith("https:")) return text;
  throw new DomainError("validation", "api_key: needs a url with https, or everybody on the way could read it");
}

/** A cache that rests on itself would ask itself for ever. */
export function refuseItself(url: string, { serveUrl, cacheName }: { serveUrl: string; cacheName: string }): void {
  if (url !== `${serveUrl}/cache/${cacheName}`) return;
  throw new DomainError("validation", "url: is this cache itself");
}

/**
 * The key that a cache of another Gradient signs with now. It is asked for once: from then on the cache is held to it.
 * What went wrong is not told: it would tell what answers in networks that only this server reaches.
 */
export async function fetchRemoteKey(
  outbound: Outbound,
  { url, remoteCache, apiKey }: { readonly url: string; readonly remoteCache: string; readonly apiKey: string | null },
): Promise<string[]> {
  const address = `${url}/api/v1/caches/${remoteCache}/public-key`;
  try {
    const answer = await outbound.get(address, {
      timeoutMs: TIMEOUT_MS,
      idleTimeoutMs: TIMEOUT_MS,
      bytesMax: ANSWER_BYTES_MAX,
      ...(apiKey !== null && { headers: { authorization: `Bearer ${apiKey}` } }),
    });
    if (answer.status !== 200) {
      answer.discard();
      throw new OutboundError("broken", `status ${answer.status}`);
    }
    const envelope: unknown = JSON.parse(fromUtf8(await collect(answer.body, ANSWER_BYTES_MAX)));
    const { message } = envelope as { readonly message?: unknown };
    return requirePublicKeys(typeof message === "string" ? message : "");
  } catch (cause) {
    const advice = "give it as public_key, or look at url, remote_cache and api_key";
    throw new DomainError("validation", `url: no Gradient there tells the public key of that cache: ${advice}`, {
      cause,
    });
  }
}
