import { DomainError } from "#core/errors.ts";
import { fromHex } from "#core/lib/bytes.ts";
import { Semaphore } from "#core/lib/semaphore.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import { contentAddressFault } from "#core/nix/content-address.ts";
import type { Hash } from "#core/nix/hash.ts";
import type { BuildResult, WorkerMessage } from "#core/protocol/worker-messages.ts";
import type { CommittedPath } from "#core/services/cache-commit.ts";
import { type DeliveredPath, type Deliveries, deliveriesOf } from "#core/services/deliveries.ts";
import { storeObject } from "#core/services/nar-receive.ts";
import type { HubDeps } from "./deps.ts";
import type { LeasedAttempt } from "./leased-attempts.ts";
import type { WorkerConnection } from "./session.ts";
import type { SessionSignatures } from "./session-signatures.ts";
import { type BudgetShare, UploadBudget } from "./upload-budget.ts";

type NarPush = Extract<WorkerMessage, { type: "nar_push" }>;

/** Uploads of one worker that are stored at a time; further ones wait with one window of theirs in memory. */
const CONCURRENT_RECEIVES = 8;

/** An upload that the result of its attempt is to be recorded with. */
interface HeldUpload {
  readonly attemptId: string;
  readonly path: string;
  readonly share: BudgetShare;
  /** Null when it was refused. */
  readonly stored: Promise<DeliveredPath | null>;
}

/**
 * The NARs that come from one worker. Each is stored as it comes; it is offered at once, or together with the result of
 * its attempt when the worker has said that it will send that next.
 */
export class NarUploads {
  readonly #deps: HubDeps;
  readonly #connection: WorkerConnection;
  readonly #signatures: Pick<SessionSignatures, "verified">;
  readonly #deliveries: Deliveries;
  readonly #receives = new Semaphore(CONCURRENT_RECEIVES);
  readonly #held = new Map<number, HeldUpload>();
  readonly #budget: UploadBudget;

  constructor(deps: HubDeps, connection: WorkerConnection, signatures: Pick<SessionSignatures, "verified">) {
    this.#deps = deps;
    this.#connection = connection;
    this.#signatures = signatures;
    this.#deliveries = deliveriesOf(deps);
    this.#budget = new UploadBudget(deps.limits.maxNarBufferBytes);
  }

  /**
   * Stores an upload. The answer is `nar_committed` once it is offered, or `nar_refused` with what to do about it; for
   * one that waits for its result `deliver` gives it.
   */
  async receive(message: NarPush, attempt: LeasedAttempt, body: ByteStream): Promise<void> {
    const { upload, with_result: withResult = false } = message;
    const share = this.#budget.share();
    const stored = this.#stored(message, attempt, share.through(body), body);
    if (!withResult) return await this.#offerAlone(upload, attempt, await stored).finally(share.release);
    this.#forgetOlder(upload, attempt.id, message.info.path);
    this.#held.set(upload, { attemptId: attempt.id, path: message.info.path, share, stored });
    if ((await stored) === null) share.release();
  }

  /**
   * Records a result together with the uploads it names. False when one of these was refused, which was answered with
   * `nar_refused`; the others were offered and answered by themselves, and the worker reports again. `isPatient` is
   * asked when all of it has come: whether it may wait a moment for others.
   */
  async deliver(
    attempt: LeasedAttempt,
    { result, uploads }: { readonly result: BuildResult; readonly uploads: readonly number[] },
    isPatient: () => boolean,
  ): Promise<boolean> {
    const held = uploads.map((upload) => ({ upload, stored: this.#take(upload, attempt) }));
    const parts: { readonly upload: number; readonly path: DeliveredPath }[] = [];
    for (const { upload, stored } of held) {
      const path = await stored;
      if (path) parts.push({ upload, path });
    }
    if (parts.length === uploads.length) {
      const paths = parts.map(({ path }) => path);
      try {
        const delivery = { paths, result: { attemptId: attempt.id, result } };
        await this.#deliveries.add(attempt.organizationId, delivery, { isPatient: isPatient() });
        return true;
      } catch (error) {
        if (!(error instanceof DomainError)) throw error;
        if (parts.length === 0) throw error;
      }
    }
    // In order: what an upload refers to comes before it, or is not there.
    for (const { upload, path } of parts) await this.#offerAlone(upload, attempt, path);
    return false;
  }

  /** The attempt is over, or this session is: what waited for its result is worth nothing. */
  forget(attemptId?: string): void {
    for (const [upload, { attemptId: owner, share, stored }] of this.#held) {
      if (attemptId !== undefined && owner !== attemptId) continue;
      this.#held.delete(upload);
      share.release();
      void stored.then((path) => path && this.#deliveries.discard([path]));
    }
  }

  /** Null for what this attempt has not uploaded: another attempt's may be another organization's. */
  #take(upload: number, { id }: LeasedAttempt): Promise<DeliveredPath | null> | null {
    const held = this.#held.get(upload);
    if (held?.attemptId !== id) return null;
    held.share.release();
    this.#held.delete(upload);
    return held.stored;
  }

  /** Another one with the number would not be found any more, nor would it be discarded. */
  #forgetOlder(upload: number, attemptId: string, path: string): void {
    for (const [other, held] of this.#held) {
      if (other !== upload && (held.attemptId !== attemptId || held.path !== path)) continue;
      this.#held.delete(other);
      held.share.release();
      void held.stored.then((older) => older && this.#deliveries.discard([older]));
    }
  }

  async #offerAlone(upload: number, attempt: LeasedAttempt, path: DeliveredPath | null): Promise<void> {
    if (!path) return;
    try {
      await this.#deliveries.add(attempt.organizationId, { paths: [path], result: null });
      this.#connection.send({ type: "nar_committed", upload });
    } catch (error) {
      this.#refuse(upload, path.path.storePath, error);
      if (error instanceof DomainError) await this.#deliveries.discard([path]);
    }
  }

  /** Null when it was refused. Never throws. */
  async #stored(
    message: NarPush,
    attempt: LeasedAttempt,
    metered: ByteStream,
    body: ByteStream,
  ): Promise<DeliveredPath | null> {
    try {
      await requireAddressed(message, attempt);
      return await this.#receives.run(() => this.#store(message, metered));
    } catch (error) {
      this.#refuse(message.upload, message.info.path, error);
      return null;
    } finally {
      // What failed before the body was read must not leave its sender waiting for credit.
      await body[Symbol.asyncIterator]().return?.();
    }
  }

  async #store({ target, info, compression, signatures }: NarPush, body: ByteStream): Promise<DeliveredPath> {
    const narHash = sha256(info.nar_hash);
    const narSize = info.nar_size;
    const object = await storeObject(this.#deps, { narHash, narSize, compression, body });
    const path: CommittedPath = {
      storePath: info.path,
      narHash,
      references: info.references,
      deriver: info.deriver,
      ca: info.ca,
      signatures: await this.#signatures.verified({ ...info, storePath: info.path, narHash, narSize }, signatures),
    };
    return { target, path, object };
  }

  #refuse(upload: number, path: string, error: unknown): void {
    const known = error instanceof DomainError;
    if (!known) this.#deps.log.warn("an upload failed", { path, error });
    const retry = !known || error.code === "service_unavailable";
    const text = known ? error.message : "the server could not store it";
    this.#connection.send({ type: "nar_refused", upload, message: text, retry });
  }
}

/** Where no derivation says that the path is the build's own, its content has to. */
async function requireAddressed({ target, info }: NarPush, { outputs }: LeasedAttempt): Promise<void> {
  if (target === "source" || outputs.has(info.path)) return;
  const fault = await contentAddressFault({ ...info, storePath: info.path, narHash: sha256(info.nar_hash) });
  if (fault !== null) throw new DomainError("validation", fault);
}

function sha256(hex: string): Hash {
  const digest = fromHex(hex);
  if (!digest) throw new DomainError("validation", "the NAR hash is not hexadecimal");
  return { algorithm: "sha256", digest };
}
