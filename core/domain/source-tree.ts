import { DomainError } from "../errors.ts";
import { utf8 } from "../lib/bytes.ts";
import type { ByteStream } from "../lib/streams.ts";
import { byteStringOf, byteStringOfText } from "../nix/byte-string.ts";
import { NAR_LIMITS, type NarEvent } from "../nix/nar.ts";

/** By the numbers that the database holds. */
export const SOURCE_FILE_KINDS = ["file", "executable", "symlink"] as const;
export type SourceFileKind = (typeof SOURCE_FILE_KINDS)[number];

/** A file of a source tree by its content's hash. */
export interface SourceFile {
  /** Names with slashes between them, below the tree's root. */
  readonly path: string;
  readonly kind: SourceFileKind;
  /** BLAKE3 of the content; of a link it is the target. */
  readonly hash: Uint8Array;
  readonly size: number;
}

const PATH_LENGTH_MAX = 4_096;

/**
 * The files in the order in which a NAR names them: parents before what they hold, names by their bytes. Throws
 * `bad_request` for what is no tree: a path that leaves it, two files of one path, a file where a folder is.
 */
export function orderSourceFiles<T extends Pick<SourceFile, "path" | "kind" | "size">>(files: readonly T[]): T[] {
  if (files.length === 0) throw new DomainError("bad_request", "files: name at least one");
  const placed = files.map((file) => ({ file, names: namesOf(file) }));
  placed.sort((a, b) => compareNames(a.names, b.names));
  for (let index = 1; index < placed.length; index++) {
    const [before, here] = [placed[index - 1], placed[index]] as [(typeof placed)[0], (typeof placed)[0]];
    const isBelow = before.names.every((name, depth) => here.names[depth] === name);
    if (!isBelow) continue;
    const same = before.names.length === here.names.length;
    const what = same ? "it is named twice" : `${quoted(before.file.path)} is a file, not a folder`;
    throw new DomainError("bad_request", `files: ${quoted(here.file.path)}: ${what}`);
  }
  return placed.map(({ file }) => file);
}

/** The tree as a walk, for `writeNar`. Takes the files as `orderSourceFiles` gave them. */
export async function* walkSource(
  files: readonly SourceFile[],
  read: (file: SourceFile) => ByteStream,
): AsyncGenerator<NarEvent> {
  yield { kind: "directory", name: "" };
  const open: string[] = [];
  for (const file of files) {
    const names = file.path.split("/");
    const name = names.pop() as string;
    let kept = 0;
    while (kept < open.length && open[kept] === names[kept]) kept++;
    for (; open.length > kept; open.pop()) yield { kind: "directoryEnd" };
    for (const folder of names.slice(kept)) {
      open.push(folder);
      yield { kind: "directory", name: byteStringOfText(folder) };
    }
    yield* walkFile(file, byteStringOfText(name), read);
  }
  for (; open.length > 0; open.pop()) yield { kind: "directoryEnd" };
  yield { kind: "directoryEnd" };
}

async function* walkFile(
  file: SourceFile,
  name: string,
  read: (file: SourceFile) => ByteStream,
): AsyncGenerator<NarEvent> {
  if (file.kind === "symlink") {
    let target = "";
    for await (const bytes of read(file)) target += byteStringOf(bytes);
    yield { kind: "symlink", name, target };
    return;
  }
  yield { kind: "file", name, executable: file.kind === "executable", size: file.size, offset: 0 };
  for await (const bytes of read(file)) if (bytes.length > 0) yield { kind: "content", bytes };
}

function namesOf({ path, kind, size }: Pick<SourceFile, "path" | "kind" | "size">): string[] {
  const names = path.split("/");
  const problem = pathProblem(path, names) ?? (kind === "symlink" ? targetProblem(size) : null);
  if (problem) throw new DomainError("bad_request", `files: ${quoted(path)}: ${problem}`);
  return names.map(byteStringOfText);
}

function pathProblem(path: string, names: readonly string[]): string | null {
  if (path === "") return "a path is empty";
  if (path.length > PATH_LENGTH_MAX) return `it is longer than ${PATH_LENGTH_MAX} characters`;
  if (path.startsWith("/")) return "paths are relative to the source's root: leave the leading slash out";
  if (path.includes("\0")) return "it holds a NUL character";
  if (!path.isWellFormed()) return "it is not Unicode text";
  if (names.some((name) => name === "" || name === "." || name === "..")) return "it has an empty, . or .. part";
  if (names.some((name) => utf8(name).length > NAR_LIMITS.nameBytesMax)) {
    return `a name is longer than ${NAR_LIMITS.nameBytesMax} bytes`;
  }
  return null;
}

function targetProblem(size: number): string | null {
  return size >= 1 && size <= NAR_LIMITS.targetBytesMax
    ? null
    : `a link's target has 1 to ${NAR_LIMITS.targetBytesMax} bytes`;
}

function compareNames(a: readonly string[], b: readonly string[]): number {
  for (let depth = 0; depth < a.length && depth < b.length; depth++) {
    const [x, y] = [a[depth] as string, b[depth] as string];
    if (x !== y) return x < y ? -1 : 1;
  }
  return a.length - b.length;
}

function quoted(path: string): string {
  return JSON.stringify(path.slice(0, 200));
}
