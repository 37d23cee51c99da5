import { utf8 } from "#core/lib/bytes.ts";
import type { Clock } from "#core/lib/clock.ts";
import { stripAnsi } from "#core/nix/daemon/ansi.ts";
import { buildLogLine, buildPhase, type DaemonEvent } from "#core/nix/daemon/events.ts";
import { LOG_LIMITS, LogLimiter, type LogLimits } from "./log-limiter.ts";
import { LogTail } from "./log-tail.ts";

export interface BuildLogOptions {
  readonly write: (bytes: Uint8Array) => void;
  readonly clock: Clock;
  readonly limits?: LogLimits;
}

const MIB = 1024 * 1024;
/** Of a log that was cut, the end is kept beside the beginning. */
const TAIL_BYTES_MAX = 64 * 1024;

/**
 * Writes the log of one build, line by line as it comes, within its limits. Of what the daemon itself says, errors are
 * left out: they repeat the last lines of the log, and the result of the build tells them.
 */
export class BuildLog {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #limiter: LogLimiter;
  readonly #limits: LogLimits;
  readonly #tail = new LogTail(TAIL_BYTES_MAX);
  #phase: string | null = null;

  constructor({ write, clock, limits = LOG_LIMITS }: BuildLogOptions) {
    this.#write = write;
    this.#limits = limits;
    this.#limiter = new LogLimiter(clock, limits);
  }

  /** The phase that the builder entered last. */
  get phase(): string | null {
    return this.#phase;
  }

  /** True when the event is a sign of life of the builder. */
  add(event: DaemonEvent): boolean {
    const line = buildLogLine(event);
    if (line !== null) {
      this.line(line);
      return true;
    }
    const phase = buildPhase(event);
    if (phase !== null) {
      this.#phase = phase;
      // As the builder wrote it, and as `nix log` shows it.
      this.line(`@nix ${JSON.stringify({ action: "setPhase", phase })}`);
      return true;
    }
    if (event.kind === "message" && !/^\s*error:/.test(stripAnsi(event.text))) this.line(event.text.trimEnd());
    return false;
  }

  /** A line of our own. */
  note(text: string): void {
    this.line(`[gradient: ${text}]`);
  }

  line(text: string): void {
    // Short ones share a piece of memory: a loud build is millions of them.
    const bytes = Buffer.from(`${text}\n`);
    switch (this.#limiter.take(bytes.length)) {
      case "allowed":
        return this.#write(bytes);
      case "first-refusal": {
        const { bytesPerMinute, bytesPerHour } = this.#limits;
        const rule = `more than ${mebibytes(bytesPerMinute)} in a minute or ${mebibytes(bytesPerHour)} in an hour`;
        this.#tail.add(bytes);
        return this.#write(utf8(`[gradient: log truncated: ${rule}; the build goes on, and the end will follow]\n`));
      }
      case "refused":
        this.#tail.add(bytes);
    }
  }

  /** The builder has ended: of a log that was cut, its last lines are written. */
  end(): void {
    const { lines, leftOut } = this.#tail.take();
    if (lines.length === 0) return;
    this.#write(utf8(`[gradient: ${leftOut} bytes are left out here; the end of the log:]\n`));
    for (const line of lines) this.#write(line);
  }
}

function mebibytes(bytes: number): string {
  return bytes >= MIB ? `${bytes / MIB} MiB` : `${bytes} bytes`;
}
