import { expect, test } from "vitest";
import { collect, streamOf } from "#core/lib/streams.ts";
import { UploadBudget } from "./upload-budget.ts";

const bytes = (length: number) => streamOf(new Uint8Array(length));

test("uploads of one session share what it may hold, and what is released can be used again", async () => {
  const budget = new UploadBudget(100);
  const first = budget.share();
  await collect(first.through(bytes(60)), 1000);
  const second = budget.share();
  await expect(collect(second.through(bytes(50)), 1000)).rejects.toMatchObject({ code: "service_unavailable" });
  second.release();
  first.release();
  first.release();
  expect(budget.heldBytes).toBe(0);

  const third = budget.share();
  await collect(third.through(bytes(100)), 1000);
  expect(budget.heldBytes).toBe(100);
});

test("an upload that could never fit is refused for good", async () => {
  const budget = new UploadBudget(100);
  await expect(collect(budget.share().through(bytes(101)), 1000)).rejects.toMatchObject({
    code: "payload_too_large",
    message: "the upload is larger than maxNarBufferBytes, 100",
  });
});
