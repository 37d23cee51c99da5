import type { Kysely } from "kysely";
import { appendLog, findLogPosition, type LogPosition } from "../db/log-chunks.ts";
import type { Database } from "../db/schema.ts";
import { concatBytes, utf8 } from "../lib/bytes.ts";
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
const LINE_FEED = 0x0a;
/** More than a worker's own limits let through in the longest build; a worker without them is cut here. */
const LOG_BYTES_MAX: number = 512 * 1024 * 1024;

export interface LogPart {
  readonly offset: number;
  readonly stream: ByteStream;
  /** By default 512 MiB. */
  readonly bytesMax?: number;
}

/**
 * Stores what a worker sends of a log, from `offset` on. What is stored already is skipped, so that a worker may send a
 * part again after its session was lost. Ends with the stream, or ends that when the log is as long as one may be;
 * throws when the stream begins behind the stored end.
 */
export async function writeLog(
  deps: LogWriteDeps,
  attemptId: string,
  { offset, stream, bytesMax = LOG_BYTES_MAX }: LogPart,
): Promise<void> {
  const start = await findLogPosition(deps.db, attemptId);
  if (start && start.bytes > bytesMax) return void (await stream[Symbol.asyncIterator]().return?.());
  if (!start || offset > start.bytes) throw new Error("the log stream does not join on to what is stored");
  const writer = new LogWriter(deps, attemptId, start, { skip: start.bytes - offset, bytesMax });
  try {
    for await (const bytes of stream) if (!(await writer.add(bytes))) break;
  } finally {
    await writer.close();
  }
}

class LogWriter {
  readonly #deps: LogWriteDeps;
  readonly #attemptId: string;
  readonly #bytesMax: number;
  #position: LogPosition;
  #skip: number;
  #parts: Uint8Array[] = [];
  #length = 0;
  #cancelTimer: (() => void) | null = null;
  #writing: Promise<void> = Promise.resolve();

  constructor(
    deps: LogWriteDeps,
    attemptId: string,
    position: LogPosition,
    { skip, bytesMax }: { readonly skip: number; readonly bytesMax: number },
  ) {
    this.#deps = deps;
    this.#attemptId = attemptId;
    this.#position = position;
    this.#skip = skip;
    this.#bytesMax = bytesMax;
  }

  /** False when the log takes no more. */
  async add(bytes: Uint8Array): Promise<boolean> {
    const fresh = bytes.subarray(Math.min(this.#skip, bytes.length));
    this.#skip -= bytes.length - fresh.length;
    if (fresh.length === 0) return true;
    this.#parts.push(fresh);
    this.#length += fresh.length;
    const full = this.#position.bytes + this.#length > this.#bytesMax;
    if (full) this.#cut();
    if (full || this.#length >= CHUNK_BYTES_MAX) {
      await this.#flush();
      return !full;
    }
    this.#cancelTimer ??= this.#deps.clock.schedule(FLUSH_INTERVAL_MS, () => {
      // A failed write shows at the next `add` or at `close`, which wait for the same promise.
      this.#flush().catch(() => {});
    });
    return true;
  }

  #cut(): void {
    const note = utf8(`\n[gradient: log truncated: no more than ${this.#bytesMax} bytes of it are kept]\n`);
    this.#parts.push(note);
    this.#length += note.length;
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
    const lines = countLines(data);
    if (!(await appendLog(this.#deps.db, this.#attemptId, this.#position, { data, lines }))) {
      throw new Error("another session writes this log");
    }
    this.#position = { bytes: this.#position.bytes + data.length, lines: this.#position.lines + lines };
    this.#deps.notifier.notify("log", this.#attemptId);
  }
}

function countLines(data: Uint8Array): number {
  let lines = 0;
  for (let at = data.indexOf(LINE_FEED); at !== -1; at = data.indexOf(LINE_FEED, at + 1)) lines++;
  return lines;
}
