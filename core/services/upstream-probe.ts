import { fromUtf8 } from "../lib/bytes.ts";
import { collect } from "../lib/streams.ts";
import { NARINFO_BYTES_MAX, type NarInfo, parseNarInfo } from "../nix/narinfo.ts";
import type { PublicKey } from "../nix/signature.ts";
import { type StorePath, storePathHash } from "../nix/store-path.ts";
import type { Logger } from "../ports/logger.ts";
import { type Outbound, OutboundError } from "../ports/outbound.ts";
import { isTrusted } from "./upstream-trust.ts";

/** A cache of others, as it is asked. */
export interface Upstream {
  readonly id: string;
  readonly cacheId: string;
  /** Without a slash at its end. */
  readonly url: string;
  readonly keys: readonly PublicKey[];
}

/** It answers, but not with what was asked for: 5xx, or a text that is no narinfo. */
export class UpstreamFailedError extends Error {
  override readonly name = "UpstreamFailedError";
}

/** One narinfo, to the end of its body. */
const TIMEOUT_MS = 5_000;
/** A bucket that may not be listed says 403 for what it does not have; Nix takes it as "not there" too. */
const ABSENT: readonly number[] = [403, 404, 410];
/** What the workers read. A path in another form is built rather than fetched in vain. */
const COMPRESSIONS: readonly string[] = ["none", "xz", "zstd", "gzip", "br"];

export function isAbsent(status: number): boolean {
  return ABSENT.includes(status);
}

/**
 * What the upstream says of the path; null when it does not have it, or says something of it that is not to be
 * believed (which is logged). Throws `OutboundError` or `UpstreamFailedError` when it could not be found out.
 */
export async function probeUpstream(
  { outbound, log }: { readonly outbound: Outbound; readonly log: Logger },
  { url, keys }: Upstream,
  path: StorePath,
  signal: AbortSignal,
): Promise<NarInfo | null> {
  const text = await fetchText(outbound, `${url}/${storePathHash(path)}.narinfo`, signal);
  if (text === null) return null;
  const info = readNarInfo(text, url);
  const ignore = (reason: string) => {
    log.warn("what an upstream says of a path is ignored", { upstream: url, path, reason });
    return null;
  };
  if (info.storePath !== path) return ignore(`it answers with ${info.storePath}`);
  if (!COMPRESSIONS.includes(info.compression)) return ignore(`it is compressed as ${info.compression}`);
  if (!(await isTrusted(info, keys))) return ignore("none of the upstream's public keys has signed it");
  if (!narUrl(url, info.url)) return ignore("its file has another scheme than the upstream's address");
  return info;
}

/** Where the file of a narinfo is. Null for an address that must not be followed. */
export function narUrl(upstreamUrl: string, url: string): string | null {
  if (!URL.canParse(url, `${upstreamUrl}/`)) return null;
  const resolved = new URL(url, `${upstreamUrl}/`);
  const isPlain = resolved.username === "" && resolved.password === "";
  return isPlain && resolved.protocol === new URL(upstreamUrl).protocol ? resolved.href : null;
}

async function fetchText(outbound: Outbound, url: string, signal: AbortSignal): Promise<string | null> {
  const options = { timeoutMs: TIMEOUT_MS, idleTimeoutMs: TIMEOUT_MS, bytesMax: NARINFO_BYTES_MAX, signal };
  const answer = await outbound.get(url, options);
  if (answer.status !== 200) {
    answer.discard();
    if (isAbsent(answer.status)) return null;
    throw new UpstreamFailedError(`${url} answers with status ${answer.status}`);
  }
  const bytes = await collect(answer.body, NARINFO_BYTES_MAX);
  try {
    return fromUtf8(bytes);
  } catch {
    throw new UpstreamFailedError(`${url} answers with bytes that are no text`);
  }
}

/** A text that is no narinfo may be a proxy's or a portal's page: it says nothing of the path. */
function readNarInfo(text: string, url: string): NarInfo {
  try {
    return parseNarInfo(text);
  } catch (error) {
    throw new UpstreamFailedError(`${url}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Whether asking again at once is in vain. */
export function isHopeless(error: unknown): boolean {
  return error instanceof OutboundError && (error.failure === "unreachable" || error.failure === "refused");
}
