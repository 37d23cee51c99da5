import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

/** Prints how many threads were lowered, and of each thread its name and how nice it is (the 19th of `stat`). */
const SCRIPT = `
  import { readdirSync, readFileSync } from "node:fs";
  const { lowerCollectorThreads } = await import(process.argv[1]);
  const lowered = [await lowerCollectorThreads(), await lowerCollectorThreads()];
  const threads = readdirSync("/proc/self/task").map((thread) => {
    const [, name, rest] = /\\((.*)\\) (.*)/.exec(readFileSync("/proc/self/task/" + thread + "/stat", "utf8"));
    return [name, Number(rest.split(" ")[16])];
  });
  console.log(JSON.stringify({ lowered, threads }));
`;

async function run(niceness: number): Promise<{ lowered: number[]; nicenessOf: Record<string, number> }> {
  const module = new URL("collector-threads.ts", import.meta.url).href;
  const node = [process.execPath, "--v8-pool-size=1", "--input-type=module", "--eval", SCRIPT, module];
  const { stdout } = await promisify(execFile)("nice", ["-n", String(niceness), ...node]);
  const { lowered, threads } = JSON.parse(stdout);
  return { lowered, nicenessOf: Object.fromEntries(threads) };
}

test.skipIf(process.platform !== "linux")("V8's threads alone give way, however often they are told to", async () => {
  const { lowered, nicenessOf } = await run(0);

  expect(lowered).toEqual([1, 1]);
  expect(nicenessOf).toMatchObject({ MainThread: 0, V8Worker: 10, "libuv-worker": 0 });
});

test.skipIf(process.platform !== "linux")(
  "a process that gives way itself has them give way as far as it goes",
  async () => {
    expect((await run(15)).nicenessOf).toMatchObject({ MainThread: 15, V8Worker: 19 });
  },
);
