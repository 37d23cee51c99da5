import { assert } from "../lib/assert.ts";
import { type ByteString, byteStringOf } from "./byte-string.ts";
import { type NarEvent, type NarLimits, NarParseError } from "./nar.ts";
import * as token from "./nar-tokens.ts";

/** What the next bytes are. Each state but `content` and `done` needs a known number of them at once. */
type State =
  | "header"
  | "type"
  | "directoryRest"
  | "fileTag"
  | "executableRest"
  | "size"
  | "content"
  | "contentEnd"
  | "targetLength"
  | "target"
  | "directoryNext"
  | "nameLength"
  | "name"
  | "entryEnd"
  | "done";

/** Takes the bytes in any cut. Content is never copied; only a token that two chunks share is. */
export class NarScanner {
  readonly #limits: NarLimits;
  readonly #sink: ((event: NarEvent) => void) | null;
  /** The name read last in each open directory. */
  readonly #open: ByteString[] = [];
  readonly #carry: Uint8Array;
  #carried = 0;
  #state: State = "header";
  #need: number = token.MAGIC.length + token.NODE_START.length;
  /** Bytes before the token that is read now. */
  #position = 0;
  #name: ByteString = "";
  #length = 0;
  #executable = false;
  #entries = 0;

  constructor(limits: NarLimits, sink: ((event: NarEvent) => void) | null) {
    this.#limits = limits;
    this.#sink = sink;
    this.#carry = new Uint8Array(64 + token.paddedLength(Math.max(limits.nameBytesMax, limits.targetBytesMax)));
  }

  push(chunk: Uint8Array): void {
    let offset = 0;
    while (offset < chunk.length) {
      if (this.#state === "content") offset = this.#passContent(chunk, offset);
      else if (this.#state === "done") this.#fail("something follows its end");
      else if (this.#carried === 0 && chunk.length - offset >= this.#need) {
        const { length } = this.#take(chunk, offset);
        offset += length;
      } else offset = this.#fillCarry(chunk, offset);
    }
  }

  /** To be called when no bytes are left. */
  end(): void {
    if (this.#state !== "done") this.#fail("it ends too early");
  }

  #passContent(chunk: Uint8Array, offset: number): number {
    const end = Math.min(chunk.length, offset + this.#length);
    this.#sink?.({ kind: "content", bytes: chunk.subarray(offset, end) });
    this.#length -= end - offset;
    this.#position += end - offset;
    if (this.#length === 0) this.#state = "contentEnd";
    return end;
  }

  #fillCarry(chunk: Uint8Array, offset: number): number {
    const end = Math.min(chunk.length, offset + this.#need - this.#carried);
    this.#carry.set(chunk.subarray(offset, end), this.#carried);
    this.#carried += end - offset;
    if (this.#carried === this.#need) {
      this.#carried = 0;
      this.#take(this.#carry, 0);
    }
    return end;
  }

  #take(bytes: Uint8Array, start: number): Uint8Array {
    const part = bytes.subarray(start, start + this.#need);
    this.#step(part);
    this.#position += part.length;
    return part;
  }

  #step(part: Uint8Array): void {
    switch (this.#state) {
      case "header":
        this.#expect(part, 0, token.MAGIC, "it does not start as a NAR does");
        this.#expect(part, token.MAGIC.length, token.NODE_START, "a node does not start with its type");
        return this.#go("type", token.SHORT_TOKEN_BYTES);
      case "type":
        return this.#startNode(part);
      case "directoryRest":
        this.#expect(part, 0, token.DIRECTORY.subarray(token.SHORT_TOKEN_BYTES), "an unknown type of node");
        return this.#startDirectory();
      case "fileTag":
        if (startsWith(part, 0, token.CONTENTS)) return this.#go("size", 8);
        this.#expect(part, 0, token.EXECUTABLE.subarray(0, part.length), "a file without contents");
        return this.#go("executableRest", token.EXECUTABLE.length - part.length + token.CONTENTS.length);
      case "executableRest": {
        const rest = token.EXECUTABLE.subarray(token.SHORT_TOKEN_BYTES);
        this.#expect(part, 0, rest, "a bad mark of an executable file");
        this.#expect(part, rest.length, token.CONTENTS, "a file without contents");
        this.#executable = true;
        return this.#go("size", 8);
      }
      case "size":
        return this.#startFile(this.#readLength(part, 0, Number.MAX_SAFE_INTEGER, "a file"));
      case "contentEnd":
        this.#expectPadding(part, 0, part.length - token.CLOSE.length);
        return this.#endNode(part);
      case "targetLength":
        this.#expect(part, 0, token.TARGET, "a link without target");
        this.#length = this.#readLength(part, token.TARGET.length, this.#limits.targetBytesMax, "a link's target");
        return this.#go("target", token.paddedLength(this.#length) + token.CLOSE.length);
      case "target": {
        // Outside of the call: where nobody listens its arguments are not looked at.
        const target = this.#readTarget(part);
        this.#sink?.({ kind: "symlink", name: this.#name, target });
        return this.#endNode(part);
      }
      case "directoryNext":
        if (startsWith(part, 0, token.CLOSE)) return this.#endDirectory(part);
        this.#expect(part, 0, token.ENTRY, "a directory holds neither an entry nor its end");
        return this.#go("nameLength", token.NAME.length + 8);
      case "nameLength":
        this.#expect(part, 0, token.NAME, "an entry without name");
        this.#length = this.#readLength(part, token.NAME.length, this.#limits.nameBytesMax, "a name");
        return this.#go("name", token.paddedLength(this.#length) + token.NODE.length + token.NODE_START.length);
      case "name":
        return this.#startEntry(part);
      case "entryEnd":
        this.#expect(part, 0, token.CLOSE, "an entry that does not end");
        return this.#go("directoryNext", token.SHORT_TOKEN_BYTES);
      case "content":
      case "done":
        assert(false, "these states take no tokens");
    }
  }

  #startNode(part: Uint8Array): void {
    if (++this.#entries > this.#limits.entriesMax) this.#fail(`more than ${this.#limits.entriesMax} entries`);
    this.#executable = false;
    if (startsWith(part, 0, token.REGULAR)) return this.#go("fileTag", token.SHORT_TOKEN_BYTES);
    if (startsWith(part, 0, token.SYMLINK)) return this.#go("targetLength", token.TARGET.length + 8);
    this.#expect(part, 0, token.DIRECTORY.subarray(0, part.length), "an unknown type of node");
    this.#go("directoryRest", token.DIRECTORY.length - part.length);
  }

  #startFile(size: number): void {
    const offset = this.#position + 8;
    this.#sink?.({ kind: "file", name: this.#name, executable: this.#executable, size, offset });
    this.#length = size;
    this.#go(size === 0 ? "contentEnd" : "content", token.paddingLength(size) + token.CLOSE.length);
  }

  #startDirectory(): void {
    if (this.#open.length === this.#limits.depthMax) this.#fail(`deeper than ${this.#limits.depthMax} directories`);
    this.#sink?.({ kind: "directory", name: this.#name });
    this.#open.push("");
    this.#go("directoryNext", token.SHORT_TOKEN_BYTES);
  }

  #endDirectory(part: Uint8Array): void {
    this.#sink?.({ kind: "directoryEnd" });
    this.#open.pop();
    this.#endNode(part);
  }

  #startEntry(part: Uint8Array): void {
    const name = byteStringOf(part.subarray(0, this.#length));
    const namePadded = token.paddedLength(this.#length);
    if (!token.isEntryName(name)) this.#fail("a name that no file can have");
    if (name <= (this.#open.at(-1) as string)) this.#fail("names that do not ascend");
    this.#expectPadding(part, this.#length, namePadded);
    this.#expect(part, namePadded, token.NODE, "an entry without node");
    this.#expect(part, namePadded + token.NODE.length, token.NODE_START, "a node does not start with its type");
    this.#open[this.#open.length - 1] = name;
    this.#name = name;
    this.#go("type", token.SHORT_TOKEN_BYTES);
  }

  /** `part` ends with what closes the node. */
  #endNode(part: Uint8Array): void {
    this.#expect(part, part.length - token.CLOSE.length, token.CLOSE, "a node that does not end");
    if (this.#open.length === 0) this.#go("done", 0);
    else this.#go("entryEnd", token.CLOSE.length);
  }

  #readTarget(part: Uint8Array): ByteString {
    const target = byteStringOf(part.subarray(0, this.#length));
    if (target === "" || target.includes("\0")) this.#fail("a target that no link can have");
    this.#expectPadding(part, this.#length, part.length - token.CLOSE.length);
    return target;
  }

  #readLength(part: Uint8Array, at: number, max: number, what: string): number {
    const view = new DataView(part.buffer, part.byteOffset + at, 8);
    const length = view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
    if (length > max) this.#fail(`${what} of more than ${max} bytes`);
    return length;
  }

  #expectPadding(part: Uint8Array, from: number, to: number): void {
    for (let i = from; i < to; i++) if (part[i] !== 0) this.#fail("padding that is not zero");
  }

  #expect(part: Uint8Array, at: number, expected: Uint8Array, message: string): void {
    if (!startsWith(part, at, expected)) this.#fail(message);
  }

  #go(state: State, need: number): void {
    this.#state = state;
    this.#need = need;
  }

  #fail(message: string): never {
    throw new NarParseError(message, this.#position);
  }
}

function startsWith(bytes: Uint8Array, at: number, expected: Uint8Array): boolean {
  if (bytes.length - at < expected.length) return false;
  for (let i = 0; i < expected.length; i++) if (bytes[at + i] !== expected[i]) return false;
  return true;
}
