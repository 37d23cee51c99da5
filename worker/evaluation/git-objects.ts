/** An object as `git cat-file --batch` gives it; null for one that is not there. */
export type GitObject = { readonly type: string; readonly content: Buffer } | null;

const LINE_FEED = 0x0a;
const HEADER_BYTES_MAX = 1_000;

/**
 * Reads the answers of `git cat-file --batch` (git-cat-file(1), "Batch output"). Null when they end in the middle, as
 * with a repository that a crash has damaged.
 */
export function parseGitObjects(output: Buffer, count: number): GitObject[] | null {
  const objects: GitObject[] = [];
  let offset = 0;
  while (objects.length < count) {
    const end = output.indexOf(LINE_FEED, offset);
    if (end === -1 || end - offset > HEADER_BYTES_MAX) return null;
    const header = output.toString("utf8", offset, end);
    offset = end + 1;
    if (header.endsWith(" missing")) {
      objects.push(null);
      continue;
    }
    const [, type = "", size = ""] = /^[0-9a-f]{40,64} ([a-z]+) (\d{1,15})$/.exec(header) ?? [];
    const contentEnd = offset + Number(size);
    if (type === "" || output[contentEnd] !== LINE_FEED) return null;
    objects.push({ type, content: output.subarray(offset, contentEnd) });
    offset = contentEnd + 1;
  }
  return objects;
}

/** Who made a commit, and the first line of what they say about it. */
export interface CommitText {
  readonly message: string;
  readonly authorName: string;
  readonly authorEmail: string;
}

/** Reads a commit object (gitformat-commit is: headers, an empty line, the message). */
export function parseCommitObject(content: Buffer): CommitText {
  const text = content.toString("utf8");
  const end = text.indexOf("\n\n");
  const [, authorName = "", authorEmail = ""] =
    /^author (.*?) ?<([^>\n]*)>/m.exec(end === -1 ? text : text.slice(0, end)) ?? [];
  // As git's own %s: the first paragraph on one line.
  const [paragraph = ""] = (end === -1 ? "" : text.slice(end + 2)).trimStart().split(/\n\s*\n/, 1);
  return { authorName, authorEmail, message: paragraph.trim().replaceAll("\n", " ") };
}

/**
 * Whether the tree has a link of that name (gitformat-pack(5), "tree": a mode, a space, the name, a zero, the hash in
 * bytes). The name is of ASCII.
 */
export function isGitLink(tree: Buffer, name: string): boolean {
  return tree.includes(Buffer.from(`120000 ${name}\0`, "latin1"));
}
