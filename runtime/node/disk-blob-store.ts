import { randomUUID } from "node:crypto";
import { constants, type Stats } from "node:fs";
import { chmod, type FileHandle, link, mkdir, open, readdir, rm, stat, unlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { DomainError } from "#core/errors.ts";
import { assert } from "#core/lib/assert.ts";
import type { ByteStream } from "#core/lib/streams.ts";
import type { Blob, BlobStore, ByteRange } from "#core/ports/blob-store.ts";
import { assertKeyPrefix, assertObjectKey } from "#core/ports/object-key.ts";
import { FileBody } from "./disk-blob-body.ts";
import { listFolder } from "./disk-blob-list.ts";
import { hasCode, syncFolder } from "./files.ts";

/** As S3 has them. */
const PAGE_OBJECTS = 1_000;
const MODE_BITS = 0o7777;
const GROUP_READ = 0o040;
const GROUP_SEARCH = 0o010;
const SHARD_LENGTH = 2;
const UNFINISHED = ".unfinished";
/** No upload pauses for so long: it would have timed out. */
const ABANDONED_MS = 86_400_000;

/**
 * Where an object lies below the root: `nar/<hash>/<upload>` is the file `nar/<2 characters>/<hash>@<upload>`. A folder
 * of its own for each NAR would take a block of the disk, and one folder for all of them grows slow.
 */
export function objectPath(key: string): string {
  assertObjectKey(key);
  const [kind, ...names] = key.split("/") as [string, string, ...string[]];
  return join(kind, names[0].slice(0, SHARD_LENGTH), names.join("@"));
}

export interface DiskStoreOptions {
  /** Other processes use the folder, too. */
  readonly shared?: boolean;
  /** A proxy that runs in our group may read the objects that it is told of. */
  readonly groupReadable?: boolean;
  readonly pageObjects?: number;
}

/**
 * Objects as files, one a key. An object is written under another name in the same file system, flushed, and then
 * linked to its own name, which fails where that exists. One process may use a root at a time, unless all say that it
 * is shared.
 */
export async function openDiskBlobStore(
  root: string,
  { shared = false, groupReadable = false, pageObjects = PAGE_OBJECTS }: DiskStoreOptions = {},
): Promise<BlobStore> {
  const unfinished = join(root, UNFINISHED);
  // What a crash left behind has no name and nobody who waits for it.
  if (shared) await removeAbandoned(unfinished);
  else await rm(unfinished, { recursive: true, force: true });
  await mkdir(unfinished, { recursive: true, mode: 0o700 });

  const pathOf = (key: string): string => join(root, objectPath(key));
  return {
    async put(key, body) {
      const path = pathOf(key);
      return await put(path, join(unfinished, randomUUID()), body);
    },
    get: async (key, range) => await get(pathOf(key), range),
    head: async (key) => await head(pathOf(key)),
    delete: async (key) => await remove(pathOf(key)),
    async list(prefix, after = "") {
      assertKeyPrefix(prefix);
      return await listFolder(root, { prefix, after, pageObjects });
    },
    copy: async (from, to) => await copy(pathOf(from), pathOf(to)),
    ...(groupReadable && { locate: (key: string) => locate(root, objectPath(key)) }),
  };
}

/** Opens the file, and the folders on the way to it below `root`, to our group where they are not yet. */
async function locate(root: string, path: string): Promise<{ size: number; path: string } | null> {
  const entry = await stat(join(root, path)).catch((error: unknown) => {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw error;
  });
  if (!entry?.isFile()) return null;
  if ((entry.mode & GROUP_READ) === 0) {
    // The file last: by it we see that all is done.
    const folders = [root, dirname(dirname(join(root, path))), dirname(join(root, path))];
    for (const folder of folders) await chmod(folder, ((await stat(folder)).mode & MODE_BITS) | GROUP_SEARCH);
    await chmod(join(root, path), (entry.mode & MODE_BITS) | GROUP_READ);
  }
  return { size: entry.size, path };
}

/** Other processes may be writing: only what nobody has touched for long goes. */
async function removeAbandoned(folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (hasCode(error, "ENOENT")) return [];
    throw error;
  });
  for (const name of names) {
    const path = join(folder, name);
    const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Number.POSITIVE_INFINITY }));
    if (Date.now() - mtimeMs > ABANDONED_MS) await rm(path, { force: true });
  }
}

/** A second name for the same file: its bytes never change. */
async function copy(from: string, to: string): Promise<{ size: number } | null> {
  try {
    const now = new Date();
    // Whatever clears up by age must find the new name as young as it is.
    await utimes(from, now, now);
    await linkInto(from, to);
    await syncFolder(dirname(to));
    return { size: (await stat(to)).size };
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw refused(error);
  }
}

async function put(path: string, temporary: string, body: ByteStream): Promise<{ size: number }> {
  try {
    const size = await writeWhole(temporary, body);
    await linkInto(temporary, path);
    await syncFolder(dirname(path));
    return { size };
  } catch (error) {
    throw refused(error);
  } finally {
    // It is not there when it could not be made.
    await unlink(temporary).catch(() => {});
  }
}

/** The error in words for the client, where it is one that has some. */
function refused(cause: unknown): unknown {
  if (hasCode(cause, "EEXIST")) return new DomainError("already_exists", "an object with this key exists", { cause });
  if (hasCode(cause, "ENOSPC") || hasCode(cause, "EDQUOT")) {
    return new DomainError("service_unavailable", "the server's storage is full: try again later", { cause });
  }
  return cause;
}

/** Its folder is made when it is missing, which it is once in the life of a store. */
async function linkInto(temporary: string, path: string): Promise<void> {
  try {
    await link(temporary, path);
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
    await makeFolder(dirname(path));
    await link(temporary, path);
  }
}

async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first === undefined) return;
  // Every folder that got a new name in it.
  for (let made = path; made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
}

/** What is written so far goes to the disk while more comes: at the end there is little left to wait for. */
const FLUSHED_BYTES = 32 * 1024 * 1024;

async function writeWhole(path: string, body: ByteStream): Promise<number> {
  await using file = await open(path, "wx", 0o600);
  let size = 0;
  let flushed = 0;
  let flushing: Promise<void> = Promise.resolve();
  for await (const chunk of body) {
    for (let written = 0; written < chunk.length; ) {
      const { bytesWritten } = await file.write(chunk, written, chunk.length - written);
      written += bytesWritten;
    }
    size += chunk.length;
    if (size - flushed < FLUSHED_BYTES) continue;
    await flushing;
    flushed = size;
    flushing = file.datasync();
    // Awaited with the next one; a body that throws before is not to leave it unheard.
    flushing.catch(() => {});
  }
  await flushing;
  await file.sync();
  return size;
}

async function get(path: string, range?: ByteRange): Promise<Blob | null> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw error;
  }
  try {
    const entry = await file.stat();
    const { size } = entry;
    const { start, length } = range ?? { start: 0, length: size };
    assert(start >= 0 && length >= 0 && start + length <= size, "the range is within the object");
    const body = new FileBody(file, start, length);
    return { size, ...imprintOf(entry), body, discard: () => file.close() };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** The clock that gives files their times moves on every 10 ms at the latest; some file systems keep whole seconds. */
const TIMES_SETTLED_MS = 2_000;

/**
 * What each write to the file changes (`write(2)`, truncation, another file in its place; stores into a shared mapping
 * show only when the kernel writes them back). Not of a file so young that the next write might leave it the same.
 */
function imprintOf({ dev, ino, size, mtimeMs, ctimeMs }: Stats): Pick<Blob, "imprint"> {
  if (Date.now() - ctimeMs < TIMES_SETTLED_MS) return {};
  return { imprint: `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}` };
}

async function head(path: string): Promise<{ size: number } | null> {
  try {
    const entry = await stat(path);
    return entry.isFile() ? { size: entry.size } : null;
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return null;
    throw error;
  }
}

async function remove(path: string): Promise<void> {
  try {
    await unlink(path);
  } catch (error) {
    if (hasCode(error, "ENOENT") || hasCode(error, "ENOTDIR")) return;
    throw error;
  }
  await syncFolder(dirname(path));
}
