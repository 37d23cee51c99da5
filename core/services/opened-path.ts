import type { ByteStream } from "../lib/streams.ts";
import type { NarInfo } from "../nix/narinfo.ts";

/** A path with its NAR file, ready to be sent to a worker. */
export interface OpenedPath {
  readonly info: NarInfo;
  /** Null where an upstream does not say. */
  readonly fileSize: number | null;
  readonly compression: string;
  /**
   * Throws `NarDamagedError` in the place of its last chunk when the stored bytes are not what they were. An upstream's
   * are not proven here: whoever takes them checks the NAR's hash.
   */
  readonly body: ByteStream;
}
