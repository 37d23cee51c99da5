import { enableCompileCache } from "node:module";
import { compileCacheFolder, processEnvironment } from "./config.ts";

// A check every few minutes should cost next to nothing: half of its time and memory went into reading our own files.
const folder = compileCacheFolder(processEnvironment());
if (folder !== null) enableCompileCache(folder);

const { start } = await import("./start.ts");
await start();
