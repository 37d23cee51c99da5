import { spawn } from "node:child_process";
import { chmod, mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { quickFolder } from "./quick-folder.ts";

/**
 * All that the tests of a run put below the temporary folder is below one folder of its own. When the run ends, however
 * it ends, processes that were left behind are ended and the folder goes; a run that left something fails and names it.
 */
export default async function setup(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(quickFolder(), "gradient-run-"));
  // As the folder above it: programs that run as another user take their temporary files here, too.
  await chmod(folder, 0o1777);
  process.env.TMPDIR = folder;
  const script = fileURLToPath(new URL("run-folder-keeper.ts", import.meta.url));
  // Of another process group, for Ctrl-C; it waits for the end of its input, which comes when we die, too.
  const keeper = spawn(process.execPath, [script, folder], { detached: true, stdio: ["pipe", "pipe", "inherit"] });
  const report = text(keeper.stdout);
  return async () => {
    keeper.stdin.end();
    const left = await report;
    if (left) throw new Error(`the tests left something behind, which is gone now:\n${left}`);
  };
}
