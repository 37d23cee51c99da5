import { LAYERS, type Layer, TOOL_FOLDERS } from "./layers.ts";
import type { SourceFiles } from "./source-files.ts";

export const ARCHITECTURE = "docs/architecture.md";

const BEGIN = "<!-- layers: written by scripts/draw-layers.ts -->";
const END = "<!-- layers: end -->";

/** The document with the tables between its markers replaced. Throws when a marker is missing. */
export function drawLayers(document: string, files: SourceFiles): string {
  const begin = document.indexOf(BEGIN);
  const end = document.indexOf(END);
  if (begin === -1 || end < begin) throw new Error(`${ARCHITECTURE} needs the lines "${BEGIN}" and "${END}"`);
  return `${document.slice(0, begin + BEGIN.length)}\n\n${tables(files)}\n\n${document.slice(end)}`;
}

/** Every `folder/` or file with an extension that the document names in backquotes. */
export function namedPaths(document: string): string[] {
  const matches = document.matchAll(/`([A-Za-z0-9_.-]+(?:\/[A-Za-z0-9_.-]+)*(?:\/|\.(?:ts|mjs|md|sql|json)))`/g);
  return [...new Set([...matches].map((match) => match[1] as string))];
}

function tables(files: SourceFiles): string {
  const paths = [...files.keys()];
  // A folder of the table that has no file yet is law, but nothing a reader could look at.
  const present = (folder: string) => paths.some((path) => path === folder || path.startsWith(`${folder}/`));
  const layers = LAYERS.filter((layer) => present(layer.folder));
  const tools = TOOL_FOLDERS.filter((tool) => present(tool.folder));

  const purposes = [...layers, ...tools].map(({ folder, purpose, rule }) => [named(folder), purpose, rule]);
  const rights = layers.map((layer) => [named(layer.folder), imports(layer, present), packages(layer), layer.platform]);
  return [
    table(["folder", "purpose", "rule"], purposes),
    table(["folder", "may import", "packages", "globals"], rights),
  ].join("\n\n");
}

function imports(layer: Layer, present: (folder: string) => boolean): string {
  return layer.imports.filter(present).map(named).join(", ") || "nothing of ours";
}

function packages(layer: Layer): string {
  return layer.packages.map((name) => `\`${name}\``).join(", ") || "none";
}

function named(folder: string): string {
  return folder.endsWith(".ts") ? `\`${folder}\`` : `\`${folder}/\``;
}

/** Columns of equal width, as the formatter writes them: what it would change would be stale at once. */
function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((cells) => cells[column]?.length ?? 0)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  return [line(head), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}
