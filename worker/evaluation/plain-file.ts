import { constants } from "node:fs";
import { lstat, open } from "node:fs/promises";

/** What a stranger made is no file that may be read. The message ends a sentence. */
export class NotPlainError extends Error {
  override readonly name = "NotPlainError";
}

/**
 * Reads a file that a stranger may have made, in the store. Links are not followed: they lead to anything the worker
 * may read, and to devices that never end. Throws `NotPlainError` and what the file system throws.
 */
export async function readPlainFile(path: string, bytesMax: number): Promise<Buffer> {
  // Without O_NONBLOCK a pipe without a writer would be waited for, for ever.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  await using file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ELOOP" ? new NotPlainError("it is a link", { cause: error }) : error;
  });
  const info = await file.stat();
  if (!info.isFile()) throw new NotPlainError("it is no file");
  if (info.size > bytesMax) throw new NotPlainError(`it is larger than ${bytesMax} bytes`);
  return await file.readFile();
}

/** Whether the path itself is a file. A link is none: it may lead out of the source. */
export async function isPlainFile(path: string): Promise<boolean> {
  return await lstat(path).then(
    (info) => info.isFile(),
    () => false,
  );
}

/** The same for a folder. */
export async function isPlainFolder(path: string): Promise<boolean> {
  return await lstat(path).then(
    (info) => info.isDirectory(),
    () => false,
  );
}
