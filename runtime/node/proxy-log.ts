import { constants } from "node:fs";
import { type FileHandle, open, opendir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { parseSentNar } from "#core/http/sent-nar.ts";
import { type Clock, sleep } from "#core/lib/clock.ts";
import type { Logger } from "#core/ports/logger.ts";
import type { NarTraffic } from "#core/services/traffic.ts";
import { hasCode } from "./files.ts";

/** Named for the ten seconds since 1970 in which nginx writes into it (nixos/modules/server/nginx.nix). */
const NAME = /^sent-(\d{1,11})$/;
const FILE_MS = 10_000;
/** More than a hundred thousand lines a second. What is beyond is not nginx's, or counts as not sent. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;
/** A worker of nginx that waits for a disk writes with the time that it had before. */
const GRACE_MS = 10_000;
const INTERVAL_MS = 10_000;
const LINE_LENGTH_MAX = 100;

export interface ProxyLogDeps {
  readonly traffic: Pick<NarTraffic, "sent">;
  readonly clock: Clock;
}

const ADVICE =
  "nginx and the server both write into that folder (GRADIENT_NGINX_LOG_PATH, and access_log of nginx's " +
  "/gradient-located), and the server reads what nginx has written: give it mode 2770 and a group that both are in. " +
  "The NixOS module does";

/**
 * Counts what the proxy before us writes into this folder that it has sent. What it writes while no server runs is
 * counted by the next one. Where that fails each new kind of failure is logged, and it is tried again: what is sent
 * matters more than how much it was. It never rejects.
 */
export async function keepCountingSent(
  folder: string,
  { log, ...deps }: ProxyLogDeps & { readonly log: Pick<Logger, "warn"> },
  stopping: AbortSignal,
): Promise<void> {
  let told: string | null = null;
  while (!stopping.aborted) {
    const error = await countSent(folder, deps, stopping);
    const kind = error && kindOf(error);
    if (kind !== null && kind !== told) log.warn(`not all of what nginx sends is counted. ${ADVICE}`, { error });
    told = kind;
    await sleep(deps.clock, INTERVAL_MS, stopping);
  }
}

/** The same for each file, of which there is another one every ten seconds. */
function kindOf(error: Error): string {
  return "code" in error ? String(error.code) : error.message;
}

/**
 * Counts the files that nginx writes no more, and takes them away. Each is counted by one process, of however many: the
 * one that removes it. A process that dies meanwhile has counted less, and nobody counts twice.
 *
 * @returns why a file, or the folder, could not be read or removed: the first reason of all. The others are counted.
 */
export async function countSent(
  folder: string,
  { traffic, clock }: ProxyLogDeps,
  stopping?: AbortSignal,
): Promise<Error | null> {
  let failure: Error | null = null;
  try {
    for await (const entry of await opendir(folder)) {
      if (stopping?.aborted) break;
      const file = entry.isFile() ? NAME.exec(entry.name)?.[1] : undefined;
      if (file === undefined || (Number(file) + 1) * FILE_MS + GRACE_MS > clock.now()) continue;
      try {
        await using taken = await take(join(folder, entry.name));
        if (taken) await countLines(taken, traffic);
      } catch (error) {
        failure ??= error as Error;
      }
    }
  } catch (error) {
    failure ??= error as Error;
  }
  return failure;
}

/** Null when another process has taken it. */
async function take(path: string): Promise<FileHandle | null> {
  let file: FileHandle | null = null;
  try {
    // Not even for a pipe that has taken its name since do we wait.
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    await unlink(path);
    return file;
  } catch (error) {
    await file?.close();
    if (hasCode(error, "ENOENT")) return null;
    throw error;
  }
}

async function countLines(file: FileHandle, traffic: Pick<NarTraffic, "sent">): Promise<void> {
  let rest = "";
  const options = { encoding: "latin1", end: FILE_BYTES_MAX - 1, autoClose: false } as const;
  for await (const chunk of file.createReadStream(options)) {
    const lines = `${rest}${chunk}`.split("\n");
    // What is cut here has begun as no line of ours.
    rest = (lines.pop() ?? "").slice(0, LINE_LENGTH_MAX);
    for (const line of lines) {
      const sent = parseSentNar(line);
      if (sent) traffic.sent(sent.cacheId, sent.bytes);
    }
  }
}
