import type { Kysely } from "kysely";
import { appendLog, findLogPosition, type LogPosition } from "../db/log-chunks.ts";
import type { Database } from "../db/schema.ts";
import { concatBytes } from "../lib/bytes.ts";
import type { Clock } from "../lib/clock.ts";
import type { ByteStream } from "../lib/streams.ts";
import type { Notifier } from "../ports/notifier.ts";

export interface LogWriteDeps {
  readonly db: Kysely<Database>;
  readonly clock: Clock;
  readonly notifier: Notifier;
}

/** What waits at most before it is written: a line is seen within this time, and a busy log costs few rows. */
const FLUSH_INTERVAL_MS = 200;
const CHUNK_BYTES_MAX = 256 * 1024;
/** More than a worker's own limits let through in the longest build; a worker without them is cut here. */
const LOG_BYTES_MAX: number = 512 * 1024 * 1024;

/**
 * Stores what a worker sends of a log, from `offset` on. What is stored already is skipped, so that a worker may send a
 * part again after its session was lost. Ends with the stream; throws when the stream begins behind the stored end.
 */
export async function writeLog(
  deps: LogWriteDeps,
  attemptId: string,
  { offset, stream }: { readonly offset: number; readonly stream: ByteStream },
): Promise<void> {
  const start = await findLogPosition(deps.db, attemptId);
  if (!start || offset > start.bytes) throw new Error("the log stream does not join on to what is stored");
  const writer = new LogWriter(deps, attemptId, start, start.bytes - offset);
  try {
    for await (const bytes of stream) await writer.add(bytes);
  } finally {
    await writer.close();
  }
}

class LogWriter {
  readonly #deps: LogWriteDeps;
  readonly #attemptId: string;
  #position: LogPosition;
  #skip: number;
  #parts: Uint8Array[] = [];
  #length = 0;
  #cancelTimer: (() => void) | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(deps: LogWriteDeps, attemptId: string, position: LogPosition, skip: number) {
    this.#deps = deps;
    this.#attemptId = attemptId;
    this.#position = position;
    this.#skip = skip;
  }

  async add(bytes: Uint8Array): Promise<void> {
    const fresh = bytes.subarray(Math.min(this.#skip, bytes.length));
    this.#skip -= bytes.length - fresh.length;
    if (fresh.length === 0 || this.#position.bytes + this.#length > LOG_BYTES_MAX) return;
    this.#parts.push(fresh);
    this.#length += fresh.length;
    if (this.#length >= CHUNK_BYTES_MAX) return await this.#flush();
    this.#cancelTimer ??= this.#deps.clock.schedule(FLUSH_INTERVAL_MS, () => {
      // A failed write shows at the next `add` or at `close`, which wait for the same promise.
      this.#flush().catch(() => {});
    });
  }

  async close(): Promise<void> {
    await this.#flush();
  }

  #flush(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#writing = this.#writing.then(() => this.#write());
    return this.#writing;
  }

  async #write(): Promise<void> {
    if (this.#length === 0) return;
    const data = concatBytes(this.#parts);
    this.#parts = [];
    this.#length = 0;
    const lines = data.reduce((count, byte) => (byte === 0x0a ? count + 1 : count), 0);
    if (!(await appendLog(this.#deps.db, this.#attemptId, this.#position, { data, lines }))) {
      throw new Error("another session writes this log");
    }
    this.#position = { bytes: this.#position.bytes + data.length, lines: this.#position.lines + lines };
    this.#deps.notifier.notify("log", this.#attemptId);
  }
}
