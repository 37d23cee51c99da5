import { concatBytes } from "../lib/bytes.ts";
import { TAR_END, type TarEntry, tarHeader, tarPadding } from "../lib/tar.ts";
import { byteStringBytes, byteStringOfText } from "../nix/byte-string.ts";
import type { NarEvent } from "../nix/nar.ts";

const NO_TARGET = new Uint8Array();
const SLASH = Uint8Array.of(0x2f);

/** A tree as a tar file whose only top entry has this name. Memory is bounded by the depth of the tree. */
export async function* tarOf(events: AsyncIterable<NarEvent>, name: string): AsyncGenerator<Uint8Array> {
  const folders: Uint8Array[] = [];
  let left = 0;
  let padding: Uint8Array = NO_TARGET;
  for await (const event of events) {
    if (event.kind === "content") {
      yield event.bytes;
      left -= event.bytes.length;
      if (left === 0 && padding.length > 0) yield padding;
      continue;
    }
    if (event.kind === "directoryEnd") {
      folders.pop();
      continue;
    }
    const parent = folders.at(-1);
    const own = byteStringBytes(parent ? event.name : byteStringOfText(name));
    const path = parent ? concatBytes([parent, SLASH, own]) : own;
    yield tarHeader(entryOf(event, path));
    if (event.kind === "directory") folders.push(path);
    if (event.kind === "file") {
      left = event.size;
      padding = tarPadding(event.size);
    }
  }
  yield TAR_END;
}

function entryOf(event: Exclude<NarEvent, { kind: "content" | "directoryEnd" }>, path: Uint8Array): TarEntry {
  const { kind } = event;
  if (kind === "file") return { kind, path, executable: event.executable, size: event.size, target: NO_TARGET };
  const target = kind === "symlink" ? byteStringBytes(event.target) : NO_TARGET;
  const shown = kind === "directory" ? concatBytes([path, SLASH]) : path;
  return { kind, path: shown, executable: false, size: 0, target };
}
