import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ARCHITECTURE, drawLayers, namedPaths } from "./layer-drawing.ts";
import { checkLayers, type Violation } from "./layer-rules.ts";
import { ROOT, readSourceFiles, type SourceFiles } from "./source-files.ts";

function checkArchitecture(files: SourceFiles): Violation[] {
  const document = readFileSync(join(ROOT, ARCHITECTURE), "utf8");
  const at = (text: string) => document.slice(0, document.indexOf(text)).split("\n").length;
  const missing = namedPaths(document).filter((path) => !existsSync(join(ROOT, path)));
  const violations = missing.map((path) => ({
    path: ARCHITECTURE,
    line: at(`\`${path}\``),
    message: `names ${path}, which does not exist: correct the name or take it out`,
  }));

  if (drawLayers(document, files) !== document) {
    const message = 'the tables are stale: run "node scripts/bootstrap.mjs scripts/draw-layers.ts" and commit the file';
    violations.push({ path: ARCHITECTURE, line: at("<!-- layers:"), message });
  }
  return violations;
}

const files = readSourceFiles();
const violations = [...checkLayers(files), ...checkArchitecture(files)];
for (const { path, line, message } of violations) console.error(`${path}:${line}  ${message}`);
if (violations.length === 0) console.log(`layers: ${files.size} files keep to scripts/layers.ts`);
else console.error(`layers: ${violations.length} violations`);
process.exitCode = violations.length === 0 ? 0 : 1;
