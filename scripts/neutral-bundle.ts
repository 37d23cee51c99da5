import { readdirSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { isTestFile, ROOT } from "./source-files.ts";

/** Code that must run wherever there is a Web-standard `Request`: in Node, on Workers, in a browser. */
const NEUTRAL_FOLDERS = ["core", "handlers"];

function entryPoints(): string[] {
  return NEUTRAL_FOLDERS.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
      .filter((path) => path.endsWith(".ts") && !isTestFile(path))
      .map((path) => join(ROOT, folder, path)),
  );
}

const entries = entryPoints();
try {
  // "neutral" knows no module of Node: an import of one, in our code or in a package, cannot be resolved and fails.
  const { outputFiles } = await build({
    entryPoints: entries,
    absWorkingDir: ROOT,
    bundle: true,
    // Without, each file would be counted with all that it imports.
    splitting: true,
    write: false,
    outdir: join(ROOT, "dist"),
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    conditions: ["import", "browser", "workerd", "worker"],
    logLevel: "error",
  });
  const bytes = outputFiles.reduce((sum, file) => sum + file.contents.length, 0);
  console.log(`neutral bundle: ${entries.length} files without Node, ${Math.round(bytes / 1024)} KiB`);
} catch {
  // esbuild has printed what it could not resolve, with the importing line.
  console.error(
    "core/ and handlers/ must do without Node: use Web APIs, or a port of core/ports that runtime/ implements",
  );
  process.exitCode = 1;
}
