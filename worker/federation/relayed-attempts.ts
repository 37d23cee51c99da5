import { open, readFile, rename } from "node:fs/promises";
import { isUuid, isUuidV4 } from "#core/lib/ids.ts";
import type { Logger } from "#core/ports/logger.ts";

/** An attempt that the server has given to the relay, and the relay to a worker behind it. */
export interface RelayedAttempt {
  readonly id: string;
  readonly workerId: string;
  readonly organizationId: string;
  readonly kind: "build" | "evaluation";
  /** How much of its log has gone to the server. */
  logBytes: number;
  /** Resolves when what came of its log has gone to the server. */
  logSent: Promise<void>;
  /** Uploads of the worker's session, by its own numbers. */
  readonly uploads: Map<number, RelayedUpload>;
}

/** An upload has its own number on each side. */
export interface RelayedUpload {
  readonly upload: number;
  /** Resolves when the server was told of it, or will not be. */
  readonly announced: Promise<void>;
}

/** As many as a worker may name when a session begins. */
export const ATTEMPTS_MAX = 10_000;
const FILE_BYTES_MAX = 2 * 1024 * 1024;

/**
 * The attempts that the workers behind a relay have. They are kept in a small file, so that a relay that is killed can
 * name them to the server at once when it is back, before its workers are. What is missing there costs a build the time
 * it has run; what is too much there is given back.
 */
export class RelayedAttempts {
  readonly #path: string;
  readonly #log: Logger;
  readonly #attempts = new Map<string, RelayedAttempt>();
  #changed = false;
  #writing: Promise<void> | null = null;
  /** Called after each that ends. */
  onDelete: () => void = () => {};

  constructor(path: string, log: Logger) {
    this.#path = path;
    this.#log = log;
  }

  get size(): number {
    return this.#attempts.size;
  }

  get ids(): string[] {
    return [...this.#attempts.keys()];
  }

  [Symbol.iterator](): Iterator<RelayedAttempt> {
    return [...this.#attempts.values()].values();
  }

  get(id: string): RelayedAttempt | undefined {
    return this.#attempts.get(id);
  }

  add(attempt: Pick<RelayedAttempt, "id" | "workerId" | "organizationId" | "kind">): void {
    this.#attempts.set(attempt.id, { ...attempt, logBytes: 0, logSent: Promise.resolve(), uploads: new Map() });
    this.#write();
  }

  delete(id: string): boolean {
    if (!this.#attempts.delete(id)) return false;
    this.#write();
    this.onDelete();
    return true;
  }

  /** What an earlier process has left. Lines that no process wrote are left out. */
  async load(): Promise<void> {
    const text = await readFile(this.#path, "utf8").catch(() => "");
    for (const line of text.slice(0, FILE_BYTES_MAX).split("\n")) {
      const [id = "", workerId = "", organizationId = "", kind = ""] = line.split(" ");
      if (!isUuid(id) || !isUuidV4(workerId) || !isUuid(organizationId)) continue;
      if ((kind === "build" || kind === "evaluation") && this.size < ATTEMPTS_MAX) {
        this.add({ id, workerId, organizationId, kind });
      }
    }
    await this.written();
  }

  /** Resolves when the file holds what is here. */
  async written(): Promise<void> {
    while (this.#writing) await this.#writing;
  }

  /** One write at a time; what changes meanwhile is in the next. */
  #write(): void {
    this.#changed = true;
    this.#writing ??= this.#run().finally(() => {
      this.#writing = null;
    });
  }

  async #run(): Promise<void> {
    while (this.#changed) {
      this.#changed = false;
      const lines = Array.from(
        this.#attempts.values(),
        ({ id, workerId, organizationId, kind }) => `${id} ${workerId} ${organizationId} ${kind}\n`,
      );
      try {
        const temporary = `${this.#path}.new`;
        {
          await using file = await open(temporary, "w", 0o600);
          await file.writeFile(lines.join(""));
        }
        await rename(temporary, this.#path);
      } catch (error) {
        this.#log.warn("the attempts of this relay could not be kept; a restart would lose what they have done", {
          path: this.#path,
          error,
        });
      }
    }
  }
}
