import { DomainError } from "#core/errors.ts";
import { fromHex, toHex } from "#core/lib/bytes.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { Hash } from "#core/nix/hash.ts";
import type { NarInfo } from "#core/nix/narinfo.ts";
import { OutboundError } from "#core/ports/outbound.ts";
import type { PathInfoField } from "#core/protocol/fields.ts";
import type { WorkerMessage } from "#core/protocol/worker-messages.ts";
import { announceCommit, type CommittedPath } from "#core/services/cache-commit.ts";
import { commitResting } from "#core/services/cache-commit-upstreams.ts";
import { organizationTargets } from "#core/services/cache-targets.ts";
import { receiveNar } from "#core/services/nar-receive.ts";
import { openPath } from "#core/services/paths-availability.ts";
import { UpstreamFailedError } from "#core/services/upstream-probe.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";
import type { WorkerConnection } from "./session.ts";
import type { SessionSignatures } from "./session-signatures.ts";

type NarPush = Extract<WorkerMessage, { type: "nar_push" }>;
type NarRequest = Extract<WorkerMessage, { type: "nar_request" }>;

const REASON_LENGTH_MAX = 1_000;
/** Uploads of one worker that are stored at a time; further ones wait with one window of theirs in memory. */
const CONCURRENT_RECEIVES = 8;

/** The NARs that go to and come from one worker. */
export class NarTransfers {
  readonly #deps: HubDeps;
  readonly #connection: WorkerConnection;
  readonly #receives = new Semaphore(CONCURRENT_RECEIVES);
  readonly #serves: Semaphore;
  readonly #signatures: Pick<SessionSignatures, "verified">;

  constructor(deps: HubDeps, connection: WorkerConnection, signatures: Pick<SessionSignatures, "verified">) {
    this.#signatures = signatures;
    this.#deps = deps;
    this.#connection = connection;
    this.#serves = new Semaphore(deps.limits.maxConcurrentNarServes);
  }

  /** Stores an upload and offers it. The answer is `nar_committed`, or `nar_refused` with what to do about it. */
  async receive(message: NarPush, attempt: LeasedAttempt, body: ByteStream): Promise<void> {
    const { upload } = message;
    try {
      await this.#receives.run(() => this.#store(message, attempt, body));
      this.#connection.send({ type: "nar_committed", upload });
    } catch (error) {
      const known = error instanceof DomainError;
      if (!known) this.#deps.log.warn("an upload failed", { path: message.info.path, error });
      const retry = !known || error.code === "service_unavailable";
      const text = known ? error.message : "the server could not store it";
      this.#connection.send({ type: "nar_refused", upload, message: text, retry });
    } finally {
      // What failed before the body was read must not leave its sender waiting for credit.
      await body[Symbol.asyncIterator]().return?.();
    }
  }

  async #store(
    { target, info, compression, signatures }: NarPush,
    attempt: LeasedAttempt,
    body: ByteStream,
  ): Promise<void> {
    const { writable, readable, internal } = await organizationTargets(this.#deps.db, attempt.organizationId);
    if (internal === null) throw new DomainError("not_found", "the organization is gone");
    const cacheIds = target === "source" ? [internal] : [...writable];
    // What nobody in the organization can read could never be the input of a build.
    if (!cacheIds.some((id) => readable.includes(id))) cacheIds.push(internal);

    const narHash = sha256(info.nar_hash);
    const narSize = info.nar_size;
    await receiveNar(this.#deps, { narHash, narSize, compression, body });
    const path: CommittedPath = {
      storePath: info.path,
      narHash,
      references: info.references,
      deriver: info.deriver,
      ca: info.ca,
      signatures: await this.#signatures.verified({ ...info, storePath: info.path, narHash, narSize }, signatures),
    };
    const commit = { cacheIds, organizationId: attempt.organizationId, paths: [path] };
    announceCommit(this.#deps.notifier, await commitResting(this.#deps, commit, readable));
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

function sha256(hex: string): Hash {
  const digest = fromHex(hex);
  if (!digest) throw new DomainError("validation", "the NAR hash is not hexadecimal");
  return { algorithm: "sha256", digest };
}
