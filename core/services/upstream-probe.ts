import { fromUtf8 } from "../lib/bytes.ts";
import { SECOND } from "../lib/clock.ts";
import { collect } from "../lib/streams.ts";
import { NARINFO_BYTES_MAX, type NarInfo, parseForeignNarInfo } from "../nix/narinfo.ts";
import { storePathHash } from "../nix/store-path.ts";
import type { Logger } from "../ports/logger.ts";
import { type Outbound, OutboundError } from "../ports/outbound.ts";
import type { RemoteUpstream, UpstreamQuestion } from "./upstream.ts";
import { isContentAddressed, isSigned } from "./upstream-trust.ts";

export interface UpstreamProbeDeps {
  readonly outbound: Outbound;
  readonly log: Logger;
  /** How this server names itself to upstreams, which may rest on it in their turn. */
  readonly viaName: string;
}

/** A narinfo that is to be believed. */
export interface SeenPath {
  readonly info: NarInfo;
  /** By one of the upstream's keys. Else its content address alone speaks for it. */
  readonly signed: boolean;
}

/** It answers, but not with what was asked for: 5xx, or a text that is no narinfo. */
export class UpstreamFailedError extends Error {
  override readonly name = "UpstreamFailedError";
}

/** One narinfo, to the end of its body. */
export const NARINFO_TIMEOUT_MS: number = 5 * SECOND;
/** A bucket that may not be listed says 403 for what it does not have; Nix takes it as "not there" too. */
const ABSENT: readonly number[] = [403, 404, 410];
/** What is read here. A path in another form is built rather than fetched in vain. */
const COMPRESSIONS: readonly string[] = ["none", "xz", "zstd", "gzip", "bzip2", "br"];
/** Servers that rest on each other in a row. */
const HOPS_MAX = 8;
const VIA = /^[ -~]{1,500}$/;

export function isAbsent(status: number): boolean {
  return ABSENT.includes(status);
}

/**
 * What the upstream says of the path; null when it does not have it, or says something of it that is not to be
 * believed (which is logged). Throws `OutboundError` or `UpstreamFailedError` when it could not be found out.
 */
export async function probeUpstream(
  deps: UpstreamProbeDeps,
  upstream: RemoteUpstream,
  question: UpstreamQuestion,
  signal: AbortSignal,
): Promise<SeenPath | null> {
  const { url, keys } = upstream;
  const text = await fetchText(deps, upstream, question, signal);
  if (text === null) return null;
  const info = readNarInfo(text, url);
  const ignore = (reason: string) => {
    deps.log.warn("what an upstream says of a path is ignored", { upstream: url, path: info.storePath, reason });
    return null;
  };
  const isAsked = question.path ? info.storePath === question.path : storePathHash(info.storePath) === question.hash;
  if (!isAsked) return ignore(`it was asked for ${question.path ?? question.hash}`);
  if (!COMPRESSIONS.includes(info.compression)) return ignore(`it is compressed as ${info.compression}`);
  const signed = await isSigned(info, keys);
  if (!signed && !(await isContentAddressed(info))) return ignore("none of the upstream's public keys has signed it");
  if (!narUrl(url, info.url)) return ignore("its file has another scheme than the upstream's address");
  return { info, signed };
}

/** Where the file of a narinfo is. Null for an address that must not be followed. */
export function narUrl(upstreamUrl: string, url: string): string | null {
  if (!URL.canParse(url, `${upstreamUrl}/`)) return null;
  const resolved = new URL(url, `${upstreamUrl}/`);
  const isPlain = resolved.username === "" && resolved.password === "";
  return isPlain && resolved.protocol === new URL(upstreamUrl).protocol ? resolved.href : null;
}

/** What a request to `url` carries beside what every request does. Credentials stay with the upstream's origin. */
export function upstreamHeaders(
  { viaName }: Pick<UpstreamProbeDeps, "viaName">,
  { url: upstreamUrl, authorization }: RemoteUpstream,
  url: string,
  via: string | null | undefined,
): Record<string, string> {
  const own = `1.1 ${viaName}`;
  const isOwn = new URL(url).origin === new URL(upstreamUrl).origin;
  return {
    via: via ? `${via}, ${own}` : own,
    ...(authorization !== null && isOwn && { authorization }),
  };
}

/**
 * RFC 9110 section 7.6.3: whether a request has come by this server already, by too many others, or by servers that do
 * not name themselves as they should.
 */
export function isRoundTrip(viaName: string, via: string | null | undefined): boolean {
  if (!via) return false;
  // It is sent on: a header that an upstream chokes on would make it look broken.
  if (!VIA.test(via)) return true;
  const received = via.split(",").map((hop) => hop.trim().split(/\s+/)[1]);
  return received.length >= HOPS_MAX || received.includes(viaName);
}

async function fetchText(
  deps: UpstreamProbeDeps,
  upstream: RemoteUpstream,
  { hash, via }: UpstreamQuestion,
  signal: AbortSignal,
): Promise<string | null> {
  const url = `${upstream.url}/${hash}.narinfo`;
  const answer = await deps.outbound.get(url, {
    timeoutMs: NARINFO_TIMEOUT_MS,
    idleTimeoutMs: NARINFO_TIMEOUT_MS,
    bytesMax: NARINFO_BYTES_MAX,
    signal,
    headers: upstreamHeaders(deps, upstream, url, via),
  });
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
    return parseForeignNarInfo(text);
  } catch (error) {
    throw new UpstreamFailedError(`${url}: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

/** Whether asking again at once is in vain. */
export function isHopeless(error: unknown): boolean {
  return error instanceof OutboundError && (error.failure === "unreachable" || error.failure === "refused");
}
