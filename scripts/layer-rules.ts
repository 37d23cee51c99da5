import { isBuiltin } from "node:module";
import { posix } from "node:path";
import { findImportCycles } from "./import-cycles.ts";
import { findImports, type ImportSite, isBarrel } from "./imports.ts";
import { allowsPackage, isToolPath, type Layer, layerOf, TEST_PACKAGES } from "./layers.ts";
import { isTestFile, type SourceFiles } from "./source-files.ts";

export interface Violation {
  readonly path: string;
  /** Counted from 1. */
  readonly line: number;
  /** What is wrong and what to do instead, in one line. */
  readonly message: string;
}

/** Everything in which the files differ from the table in layers.ts, in the order of the files. */
export function checkLayers(files: SourceFiles): Violation[] {
  const violations: Violation[] = [];
  for (const [path, text] of files) {
    if (isToolPath(path) || isConfigurationFile(path)) continue;
    violations.push(...checkFile(path, text));
  }
  return [...violations, ...checkCycles(files)];
}

/** The file a specifier names, as a path from the root, or null when it names a package. */
export function resolveImport(path: string, specifier: string): string | null {
  if (specifier.startsWith("#")) return specifier.slice(1);
  if (specifier.startsWith(".")) return posix.join(posix.dirname(path), specifier);
  return null;
}

/** Settings of tools that lie in the root, such as vitest.config.ts. */
function isConfigurationFile(path: string): boolean {
  return /^[^/]+\.config\.[a-z]+$/.test(path);
}

function checkFile(path: string, text: string): Violation[] {
  const layer = layerOf(path);
  if (layer === null) {
    const message = "belongs to no folder of the table: move it, or add its folder with a rule to scripts/layers.ts";
    return [{ path, line: 1, message }];
  }

  const violations: Violation[] = [];
  if (isBarrel(text)) {
    violations.push({
      path,
      line: 1,
      message: "only passes on names of other files: import each name from its own file",
    });
  }
  for (const site of findImports(text)) {
    const message = checkImport(layer, path, site);
    if (message !== null) violations.push({ path, line: site.line, message });
  }
  return violations;
}

function checkImport(layer: Layer, path: string, { specifier }: ImportSite): string | null {
  const target = resolveImport(path, specifier);
  if (target === null) return checkPackage(layer, path, specifier);

  if (topFolder(target) !== topFolder(path) && specifier.startsWith(".")) {
    return `"${specifier}" leaves ${topFolder(path)} by a relative path: write "#${target}"`;
  }
  if (isTestFile(path) && topFolder(target) === "test") return null;
  if (isTestFile(target)) return `imports the test ${target}: move what both need into a file of its own`;
  if (isToolPath(target))
    return `may not import ${topFolder(target)}: nothing of the product depends on tools and tests`;

  const owner = layerOf(target);
  if (owner === null) return `"${specifier}" is in no folder of the table: see scripts/layers.ts`;
  if (owner === layer || layer.imports.includes(owner.folder)) return null;
  return `${layer.folder} may not import ${owner.folder} ("${specifier}"): ${layer.instead}`;
}

function checkPackage(layer: Layer, path: string, specifier: string): string | null {
  const test = isTestFile(path);
  if (isBuiltin(specifier) || specifier === "node") {
    if (layer.platform === "node" || test || layer.nodeModules?.includes(specifier)) return null;
    return `${layer.folder} may not import Node ("${specifier}"): use Web APIs or a port of core/ports`;
  }
  if (specifier.startsWith("cloudflare:")) {
    if (layer.platform === "workers") return null;
    return `${layer.folder} may not import Workers ("${specifier}"): use Web APIs or a port of core/ports`;
  }

  const name = packageName(specifier);
  if (allowsPackage(layer, name) || (test && allowsPackage({ packages: TEST_PACKAGES }, name))) return null;
  const allowed = layer.packages.length === 0 ? "no package" : layer.packages.join(", ");
  return `${layer.folder} may not import the package ${name} (it may: ${allowed}): ${layer.instead}`;
}

function checkCycles(files: SourceFiles): Violation[] {
  const graph = new Map<string, string[]>();
  for (const [path, text] of files) {
    if (topFolder(path) !== "core" || isTestFile(path)) continue;
    const targets = findImports(text).map((site) => resolveImport(path, site.specifier));
    graph.set(
      path,
      targets.filter((target) => target !== null && files.has(target)).map((target) => target as string),
    );
  }

  return findImportCycles(graph).map((cycle) => ({
    path: cycle[0] as string,
    line: lineOfImport(files, cycle[0] as string, (cycle[1] ?? cycle[0]) as string),
    message: `cycle ${[...cycle, cycle[0]].join(" -> ")}: move what both need into a file of its own`,
  }));
}

function lineOfImport(files: SourceFiles, path: string, target: string): number {
  const sites = findImports(files.get(path) ?? "");
  return sites.find((site) => resolveImport(path, site.specifier) === target)?.line ?? 1;
}

function topFolder(path: string): string {
  return path.split("/", 1)[0] as string;
}

function packageName(specifier: string): string {
  const parts = specifier.split("/");
  return parts.slice(0, specifier.startsWith("@") ? 2 : 1).join("/");
}
