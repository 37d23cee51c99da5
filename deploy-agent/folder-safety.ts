import { statSync } from "node:fs";

const OTHERS_MAY_WRITE = 0o022;

/**
 * Why a folder must not be relied on: who may write there may choose what this process does next. Null: it is ours, or
 * root's, alone. Throws where there is none.
 */
export function folderTrouble(folder: string): string | null {
  const { uid, mode } = statSync(folder);
  const own = process.geteuid?.() ?? uid;
  if (uid !== own && uid !== 0) return `it is owned by another user (${uid}): chown it to ${own}`;
  if ((mode & OTHERS_MAY_WRITE) === 0) return null;
  const octal = (mode & 0o777).toString(8).padStart(3, "0");
  return `others may write to it (mode ${octal}): chmod 700 it`;
}
