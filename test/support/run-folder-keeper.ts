import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { commandLineOf, killProcesses, processesGiven, untilGone, withDescendants } from "./processes.ts";
import { removeTree } from "./temporary-folder.ts";

/** Processes that were told to end a moment ago may still be at it. */
const GRACE_MS = 3_000;
const KILL_MS_MAX = 5_000;

const folder = process.argv[2];
if (!folder) throw new Error("usage: node run-folder-keeper.ts FOLDER");
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
// The reader of the report may be gone.
process.stdout.on("error", () => {});

for await (const _ of process.stdin);
const processes = await endProcessesOf(folder);
const files = (await readdir(folder)).map((name) => join(folder, name));
await removeTree(folder);
for (const line of [...processes, ...files]) process.stdout.write(`${line}\n`);

/** Answers the command lines of those that did not end by themselves. */
async function endProcessesOf(folder: string): Promise<string[]> {
  // Services, daemons and commands are given files in it; the runner's own processes only the folder itself.
  const find = () => processesGiven(`${folder}/`);
  const deadline = performance.now() + GRACE_MS;
  while ((await find()).length > 0 && performance.now() < deadline) await sleep(50);
  const left = await withDescendants(await find());
  const lines = await Promise.all(left.map(async (pid) => `process ${pid}: ${await commandLineOf(pid)}`));
  killProcesses(left);
  await untilGone(left, KILL_MS_MAX);
  return lines;
}
