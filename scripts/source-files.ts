import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** Path from the repository's root, with `/`, to the file's text. */
export type SourceFiles = ReadonlyMap<string, string>;

export const ROOT: string = dirname(dirname(fileURLToPath(import.meta.url)));

const SOURCE = /\.(?:ts|tsx|mjs)$/;
/** Folders that hold nothing written by hand. */
const IGNORED: ReadonlySet<string> = new Set(["node_modules", "dist", "data"]);

/** Every TypeScript and JavaScript file below `root`, tests and scripts included, in the order of their paths. */
export function readSourceFiles(root: string = ROOT): SourceFiles {
  const files = new Map<string, string>();
  const visit = (folder: string) => {
    const entries = readdirSync(join(root, folder), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
      if (entry.isDirectory() && !entry.name.startsWith(".") && !IGNORED.has(entry.name)) visit(path);
      else if (entry.isFile() && SOURCE.test(entry.name)) files.set(path, readFileSync(join(root, path), "utf8"));
    }
  };
  visit("");
  return files;
}

export function isTestFile(path: string): boolean {
  return /\.test\.tsx?$/.test(path);
}
