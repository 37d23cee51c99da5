import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeDocument } from "./openapi-document.ts";
import { ROOT } from "./source-files.ts";

// `npm run openapi`: writes the document of the HTTP API anew. A test fails while it differs from the sources.
const path = join(ROOT, "docs/openapi.json");
const biome = join(ROOT, "node_modules/@biomejs/biome/bin/biome");
const plain = JSON.stringify(await makeDocument());
const formatted = execFileSync(process.execPath, [biome, "format", `--stdin-file-path=${path}`], {
  cwd: ROOT,
  input: plain,
  encoding: "utf8",
  maxBuffer: 64 * 1024 * 1024,
});
writeFileSync(path, formatted);
console.log(`docs/openapi.json: ${Math.round(formatted.length / 1024)} KiB`);
