import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const COLLECTIONS = 6;

/** Prints whether what was kept has the shape of a tick after the heap was collected while none waited. */
const SCRIPT = `
  import { executionAsyncResource } from "node:async_hooks";
  import { setTimeout as sleep } from "node:timers/promises";
  const { keepTickShape } = await import(process.argv[1]);
  const kept = await keepTickShape();
  for (let i = 0; i < ${COLLECTIONS}; i++) {
    await sleep(1);
    gc();
  }
  const tick = await new Promise((resolve) => process.nextTick(() => resolve(executionAsyncResource())));
  console.log(tick !== kept, %HaveSameMap(tick, kept), kept === (await keepTickShape()));
`;

test("an object of the shape that ticks have is kept, whenever it is asked for", async () => {
  const options = ["--expose-gc", "--allow-natives-syntax", "--input-type=module", "--eval", SCRIPT];
  const module = new URL("tick-shape.ts", import.meta.url).href;
  const { stdout } = await promisify(execFile)(process.execPath, [...options, module]);
  expect(stdout.trim()).toBe("true true true");
});
