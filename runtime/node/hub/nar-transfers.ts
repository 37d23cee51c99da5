import { toHex } from "#core/lib/bytes.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { NarInfo } from "#core/nix/narinfo.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import { OutboundError } from "#core/ports/outbound.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import { DATA_FRAME_BYTES_MAX } from "#core/protocol/limits.ts";
import { type OutgoingStream, StreamEndedError } from "#core/protocol/outgoing-stream.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import type { OpenedPath } from "#core/services/opened-path.ts";
import { openPath } from "#core/services/paths-availability.ts";
import { UpstreamFailedError } from "#core/services/upstream-probe.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";
import type { WorkerConnection } from "./session.ts";

type NarRequest = Extract<WorkerMessage, { type: "nar_request" }>;

const REASON_LENGTH_MAX = 1_000;

class SlowWorkerError extends Error {
  override readonly name = "SlowWorkerError";
}

/** The NARs that go to one worker. */
export class NarTransfers {
  readonly #deps: HubDeps;
  readonly #connection: WorkerConnection;
  readonly #serves: Semaphore;

  constructor(deps: HubDeps, connection: WorkerConnection) {
    this.#deps = deps;
    this.#connection = connection;
    this.#serves = new Semaphore(deps.limits.maxConcurrentNarServes);
  }

  /** Sends a path that the organization may read, or says `nar_unavailable`; `nar_abort` when it breaks off. */
  async serve({ request, path, resume }: NarRequest, attempt: LeasedAttempt): Promise<void> {
    await this.#serves.run(async () => {
      if (this.#connection.closed) return;
      const opened = await this.#open(request, path, attempt);
      if (!opened) return;
      const stream = this.#connection.openStream();
      const { info, compression, fileSize: file_size } = opened;
      const file = info.fileHash?.algorithm === "sha256" ? toHex(info.fileHash.digest) : null;
      const offset = file !== null && resume?.file === file ? Math.min(resume.offset, file_size ?? 0) : 0;
      const offer = { request, info: pathInfoField(info), compression, file_size, stream: stream.id, offset };
      this.#connection.send({ type: "nar_offer", ...offer, ...(file !== null && { file }) });
      try {
        for await (const bytes of without(opened.body, offset)) await this.#writeInTime(stream, bytes);
        await this.#inTime(stream.end(), "the end of the transfer");
      } catch (error) {
        this.#abort(request, stream, { path, error });
      }
    });
  }

  /** Null when it was answered that there is none. */
  async #open(request: number, path: StorePath, { organizationId }: LeasedAttempt): Promise<OpenedPath | null> {
    const unavailable = (reason: string, retry: boolean) => {
      this.#connection.send({ type: "nar_unavailable", request, reason: reason.slice(0, REASON_LENGTH_MAX), retry });
      return null;
    };
    try {
      const opened = await this.#withinOpenTimeout(openPath(this.#deps, organizationId, path));
      return opened ?? unavailable("no cache that the organization reads has it, nor has an upstream of one", false);
    } catch (error) {
      if (error instanceof OutboundError || error instanceof UpstreamFailedError) {
        // It was tried several times. The build is tried again later, and its place is free meanwhile.
        return unavailable(`its upstream does not give it out: ${error.message}`, false);
      }
      this.#deps.log.warn("a path could not be opened for a worker", { path, error });
      return unavailable("the server could not read it from its storage", true);
    }
  }

  /** What the worker took before this is no use without the rest: it asks again, from where it is. */
  #abort(request: number, stream: OutgoingStream, { path, error }: { path: StorePath; error: unknown }): void {
    const stopped = error instanceof StreamEndedError;
    stream.fail("the transfer was given up");
    // The worker stopped it, or is gone.
    if (stopped || this.#connection.closed) return;
    this.#deps.log.warn("a path could not be sent to a worker to its end", { path, error });
    const reason = error instanceof SlowWorkerError ? error.message : "the server could not read it to its end";
    this.#connection.send({ type: "nar_abort", request, stream: stream.id, reason });
  }

  async #writeInTime(stream: OutgoingStream, bytes: Uint8Array): Promise<void> {
    for (let start = 0; start < bytes.length; start += DATA_FRAME_BYTES_MAX) {
      await this.#inTime(stream.write(bytes.subarray(start, start + DATA_FRAME_BYTES_MAX)), "a piece of the path");
    }
  }

  async #inTime(sending: Promise<void>, what: string): Promise<void> {
    const { clock, limits } = this.#deps;
    let cancel = () => {};
    const timeout = new Promise<never>((_, reject) => {
      const seconds = Math.round(limits.narSendChunkTimeoutMs / 1000);
      const fail = () => reject(new SlowWorkerError(`the worker did not take ${what} within ${seconds} s`));
      cancel = clock.schedule(limits.narSendChunkTimeoutMs, fail);
    });
    try {
      await Promise.race([sending, timeout]);
    } finally {
      cancel();
      sending.catch(() => {});
    }
  }

  async #withinOpenTimeout(opening: Promise<OpenedPath | null>): Promise<OpenedPath | null> {
    const { clock, limits } = this.#deps;
    let cancel = () => {};
    const timeout = new Promise<never>((_, reject) => {
      const fail = () => reject(new Error("storage did not answer in time"));
      cancel = clock.schedule(limits.narStorageOpenTimeoutMs, fail);
    });
    try {
      return await Promise.race([opening, timeout]);
    } catch (error) {
      // What is opened too late is not read by anybody.
      void opening.then((late) => discard(late)).catch(() => {});
      throw error;
    } finally {
      cancel();
    }
  }
}

async function discard(opened: OpenedPath | null): Promise<void> {
  await opened?.body[Symbol.asyncIterator]().return?.();
}

/** Read all the same: the whole is proven by its hash. */
async function* without(body: ByteStream, offset: number): AsyncGenerator<Uint8Array> {
  let skip = offset;
  for await (const bytes of body) {
    if (bytes.length > skip) yield bytes.subarray(skip);
    skip = Math.max(0, skip - bytes.length);
  }
}

export function pathInfoField(info: NarInfo): PathInfoField {
  return {
    path: info.storePath,
    nar_hash: toHex(info.narHash.digest),
    nar_size: info.narSize,
    references: [...info.references],
    deriver: info.deriver,
    ca: info.ca,
  };
}
