import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";

const COLLECTIONS = 6;

/** Prints what became of one tick's object that was kept, and of one that was not, when the heap was collected. */
const SCRIPT = `
  import { executionAsyncResource } from "node:async_hooks";
  import { setTimeout as sleep } from "node:timers/promises";
  const { keepTickShape } = await import(process.argv[1]);
  const tick = () => new Promise((resolve) => process.nextTick(() => resolve(new WeakRef(executionAsyncResource()))));
  const kept = new WeakRef(await keepTickShape());
  const other = await tick();
  for (let i = 0; i < ${COLLECTIONS}; i++) {
    await sleep(1);
    gc();
  }
  const later = (await tick()).deref();
  console.log("callback" in kept.deref(), %HaveSameMap(later, kept.deref()), later !== kept.deref(), other.deref());
`;

test("one object of the shape that ticks have is kept, where others are collected", async () => {
  const options = ["--expose-gc", "--allow-natives-syntax", "--input-type=module", "--eval", SCRIPT];
  const module = new URL("tick-shape.ts", import.meta.url).href;
  const { stdout } = await promisify(execFile)(process.execPath, [...options, module]);
  expect(stdout.trim()).toBe("true true true undefined");
});
