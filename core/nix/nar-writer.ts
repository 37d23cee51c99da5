import { assert } from "../lib/assert.ts";
import { type ByteString, byteStringBytes } from "./byte-string.ts";
import type { NarEvent } from "./nar.ts";
import * as token from "./nar-tokens.ts";

const BUFFER_BYTES = 64 * 1024;
/** Larger parts of a file go out as they are: copying them would cost more than a further chunk. */
const COPY_BYTES_MAX = 8 * 1024;

/**
 * The inverse of `readNar`. Throws `AssertionError` when the events are no walk through a tree: entries that do not
 * ascend by their bytes, a name that no file can have, content that is more or less than the file's size.
 */
export async function* writeNar(events: AsyncIterable<NarEvent> | Iterable<NarEvent>): AsyncGenerator<Uint8Array> {
  const encoder = new NarEncoder();
  let buffer = new Uint8Array(BUFFER_BYTES);
  let filled = 0;
  for await (const event of events) {
    for (const part of encoder.encode(event)) {
      if (filled + part.length > BUFFER_BYTES || part.length > COPY_BYTES_MAX) {
        if (filled > 0) yield buffer.subarray(0, filled);
        buffer = new Uint8Array(BUFFER_BYTES);
        filled = 0;
      }
      if (part.length > COPY_BYTES_MAX) yield part;
      else {
        buffer.set(part, filled);
        filled += part.length;
      }
    }
  }
  encoder.end();
  if (filled > 0) yield buffer.subarray(0, filled);
}

class NarEncoder {
  /** The name written last in each open directory. */
  readonly #open: ByteString[] = [];
  #started = false;
  #done = false;
  /** Bytes of the open file that are still to come, and the padding behind them; null between files. */
  #file: { remaining: number; padding: number } | null = null;

  encode(event: NarEvent): Uint8Array[] {
    assert(!this.#done, "a NAR holds one tree: an event came after its end");
    assert((event.kind === "content") === (this.#file !== null), "content belongs behind a file, all of its bytes");
    switch (event.kind) {
      case "content":
        return this.#content(event.bytes);
      case "file":
        return this.#startFile(event.name, event.executable, event.size);
      case "symlink": {
        const target = token.encodeString(byteStringBytes(event.target));
        return [...this.#startNode(event.name), token.SYMLINK, token.TARGET, target, ...this.#endNode()];
      }
      case "directory": {
        const start = this.#startNode(event.name);
        this.#open.push("");
        return [...start, token.DIRECTORY];
      }
      case "directoryEnd":
        assert(this.#open.length > 0, "no directory is open");
        this.#open.pop();
        return this.#endNode();
    }
  }

  end(): void {
    assert(this.#done, "the events end before the tree does");
  }

  #startFile(name: ByteString, executable: boolean, size: number): Uint8Array[] {
    assert(Number.isSafeInteger(size) && size >= 0, "a file's size is a number of bytes");
    const start = [...this.#startNode(name), token.REGULAR];
    if (executable) start.push(token.EXECUTABLE);
    start.push(token.CONTENTS, token.encodeLength(size));
    if (size === 0) return [...start, ...this.#endNode()];
    this.#file = { remaining: size, padding: token.paddingLength(size) };
    return start;
  }

  #content(bytes: Uint8Array): Uint8Array[] {
    const file = this.#file;
    assert(file !== null && bytes.length <= file.remaining, "more content than the file's size");
    file.remaining -= bytes.length;
    if (file.remaining > 0) return [bytes];
    this.#file = null;
    return [bytes, new Uint8Array(file.padding), ...this.#endNode()];
  }

  #startNode(name: ByteString): Uint8Array[] {
    const previous = this.#open.at(-1);
    if (previous === undefined) {
      assert(!this.#started && name === "", "only the root has no name, and there is one root");
      this.#started = true;
      return [token.MAGIC, token.NODE_START];
    }
    assert(token.isEntryName(name), "a name that no file can have");
    assert(previous < name, "entries ascend by the bytes of their names");
    this.#open[this.#open.length - 1] = name;
    return [token.ENTRY, token.NAME, token.encodeString(byteStringBytes(name)), token.NODE, token.NODE_START];
  }

  #endNode(): Uint8Array[] {
    if (this.#open.length > 0) return [token.CLOSE, token.CLOSE];
    this.#done = true;
    return [token.CLOSE];
  }
}
