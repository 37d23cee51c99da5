import { toHex } from "#core/lib/bytes.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { NarInfo } from "#core/nix/narinfo.ts";
import { OutboundError } from "#core/ports/outbound.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { openPath } from "#core/services/paths-availability.ts";
import { UpstreamFailedError } from "#core/services/upstream-probe.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";
import type { WorkerConnection } from "./session.ts";

type NarRequest = Extract<WorkerMessage, { type: "nar_request" }>;

const REASON_LENGTH_MAX = 1_000;

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

  /** Sends a path that the organization may read, or says `nar_unavailable`. */
  async serve({ request, path }: NarRequest, attempt: LeasedAttempt): Promise<void> {
    await this.#serves.run(async () => {
      try {
        const opened = await this.#withinOpenTimeout(openPath(this.#deps, attempt.organizationId, path));
        if (!opened) {
          const reason = "no cache that the organization reads has it, nor has an upstream of one";
          return this.#connection.send({ type: "nar_unavailable", request, reason, retry: false });
        }
        const stream = this.#connection.openStream();
        const { info, compression, fileSize } = opened;
        const offer = { request, info: pathInfoField(info), compression, file_size: fileSize, stream: stream.id };
        this.#connection.send({ type: "nar_offer", ...offer });
        await stream.pipe(opened.body);
      } catch (error) {
        if (this.#connection.closed) return;
        if (error instanceof OutboundError || error instanceof UpstreamFailedError) {
          // It was tried several times. The build is tried again later, and its place is free meanwhile.
          const reason = `its upstream does not give it out: ${error.message}`.slice(0, REASON_LENGTH_MAX);
          return this.#connection.send({ type: "nar_unavailable", request, reason, retry: false });
        }
        this.#deps.log.warn("a path could not be sent to a worker", { path, error });
        const reason = "the server could not read it from its storage";
        this.#connection.send({ type: "nar_unavailable", request, reason, retry: true });
      }
    });
  }

  async #withinOpenTimeout<T>(opening: Promise<T>): Promise<T> {
    const { clock, limits } = this.#deps;
    let cancel = () => {};
    const timeout = new Promise<never>((_, reject) => {
      const fail = () => reject(new Error("storage did not answer in time"));
      cancel = clock.schedule(limits.narStorageOpenTimeoutMs, fail);
    });
    try {
      return await Promise.race([opening, timeout]);
    } finally {
      cancel();
    }
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
