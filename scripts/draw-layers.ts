import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ARCHITECTURE, drawLayers } from "./layer-drawing.ts";
import { ROOT, readSourceFiles } from "./source-files.ts";

const path = join(ROOT, ARCHITECTURE);
writeFileSync(path, drawLayers(readFileSync(path, "utf8"), readSourceFiles()));
console.log(`${ARCHITECTURE} is up to date`);
